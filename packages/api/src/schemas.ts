import type { Readable } from 'node:stream';
import {
  ApiError,
  ApiKey,
  Attempt,
  AuditEvent,
  CarrierAccount,
  Counts,
  CreateCarrierAccount,
  CreateKey,
  CreateLead,
  CreateList,
  ErasedLead,
  EnterBusiness,
  type ErrorCode,
  ERRORS,
  Import,
  ImportReport,
  Job,
  Lead,
  LeadHistory,
  List,
  ReconcileReport,
  Run,
  SecurityReport,
  StartRun,
  StoppedRun,
  StopQueue,
  UpdateLead,
} from '@carillon/contract';
import { z } from 'zod';
import { IDEMPOTENCY_KEY_MAX_CHARACTERS, PAGE_DEFAULT_ITEMS, PAGE_MAX_ITEMS } from './limits.ts';

/** What several routes have in common: ids in paths, cursors and pages in queries, errors in answers. */

/** An id in a path or a query: decimal digits and nothing else, where plain coercion would also read `0x10` or a blank. */
export function idText<T extends z.ZodType<number>>(id: T) {
  return z
    .string()
    .regex(/^[1-9]\d{0,15}$/, 'a number such as 12')
    .transform((text): unknown => Number(text))
    .pipe(id);
}

export const pageQuery = {
  limit: z.coerce
    .number()
    .int()
    .min(1)
    .max(PAGE_MAX_ITEMS)
    .default(PAGE_DEFAULT_ITEMS)
    .describe(`Items of a page, at most ${PAGE_MAX_ITEMS}.`),
};
export const after = 'The `next` of the page before.';

export const IdempotencyHeaders = z.object({
  'idempotency-key': z
    .string()
    .min(1)
    .max(IDEMPOTENCY_KEY_MAX_CHARACTERS)
    .optional()
    .describe('Sent again with the same request, it gets what the first one made; with another, a 409.'),
});

export const EventHeaders = z.object({ 'last-event-id': z.string().max(100).optional() });

export const JobWithAttempts = Job.extend({ attempts_made: z.array(Attempt) });

/** The names under which shapes stand in the API's description, with an example where one helps. */
export const named = z.registry<{ id?: string; examples?: unknown[] }>();
named.add(ApiError, {
  id: 'Error',
  examples: [{ error: 'Run not found', code: 'run_not_found', request_id: '7b1c…' }],
});
named.add(Run, { id: 'Run' });
named.add(StoppedRun, { id: 'StoppedRun' });
named.add(Job, { id: 'Job' });
named.add(Attempt, { id: 'Attempt' });
named.add(JobWithAttempts, { id: 'JobWithAttempts' });
named.add(List, { id: 'List' });
named.add(Lead, { id: 'Lead' });
named.add(LeadHistory, { id: 'LeadHistory' });
named.add(UpdateLead, {
  id: 'UpdateLead',
  examples: [{ name: 'נועה לוי', external_id: null, attributes: { city: 'Haifa', plan: null } }],
});
named.add(ErasedLead, { id: 'ErasedLead' });
named.add(ReconcileReport, { id: 'ReconcileReport' });
named.add(ImportReport, { id: 'ImportReport' });
named.add(Import, { id: 'Import' });
named.add(CarrierAccount, { id: 'CarrierAccount' });
named.add(Counts, { id: 'Counts' });
named.add(AuditEvent, { id: 'AuditEvent' });
named.add(ApiKey, { id: 'ApiKey' });
named.add(CreateKey, { id: 'CreateKey', examples: [{ role: 'admin', label: 'CRM' }] });
named.add(EnterBusiness, {
  id: 'EnterBusiness',
  examples: [{ reason: 'ticket 4711: runs do not start', minutes: 30 }],
});
named.add(SecurityReport, { id: 'SecurityReport' });
named.add(StartRun, {
  id: 'StartRun',
  examples: [
    { list_id: 12, name: 'Autumn reminders', answer: { say: 'שלום', language: 'he-IL' } },
    { from_run: { run_id: 7, outcomes: ['busy', 'no_answer'] }, name: 'Second try' },
    { lead_ids: [101, 102], policy: { retry: { busy: { times: 2, after_s: 600 } } }, draft: true },
  ],
});
named.add(StopQueue, { id: 'StopQueue', examples: [{ run_id: 7, live_calls: 'hang_up' }] });
named.add(CreateList, { id: 'CreateList', examples: [{ name: 'Customers of October' }] });
named.add(CreateLead, {
  id: 'CreateLead',
  examples: [{ phone: '050-123-4567', country: 'IL', name: 'נועה', external_id: 'crm-881' }],
});
named.add(CreateCarrierAccount, {
  id: 'CreateCarrierAccount',
  examples: [
    {
      name: 'Main line',
      driver: 'twilio',
      base_url: 'https://api.example.com',
      account_sid: 'AC0123',
      auth_token: 'kept sealed, never shown again',
      from_numbers: ['+97231234567'],
      concurrency_limit: 10,
      calls_per_second: 1,
    },
  ],
});

const EVERYWHERE: readonly ErrorCode[] = [
  'unauthenticated',
  'forbidden',
  'too_many_requests',
  'database_unavailable',
  'outcome_unknown',
  'internal',
];

/** The answers of a route that asks for a key and may fail with these codes, by HTTP status. */
export function failures(...codes: ErrorCode[]) {
  return failuresOnly(...codes, ...EVERYWHERE);
}

/** The same without what every keyed route may answer. */
export function failuresOnly(...codes: ErrorCode[]) {
  const statuses = [...new Set(codes.map((code) => ERRORS[code].http))];
  return Object.fromEntries(
    statuses.map((status) => [
      status,
      {
        description: codes
          .filter((code) => ERRORS[code].http === status)
          .map((code) => `\`${code}\`: ${ERRORS[code].en}`)
          .join('\n\n'),
        content: { 'application/json': { schema: ApiError } },
      },
    ]),
  );
}

/** A body that is no JSON, in answers: a text, or a stream of it. */
export function text(content_type: string, description: string) {
  const schema: z.ZodType<string | Readable> = z.string();
  return { description, content: { [content_type]: { schema } } };
}
