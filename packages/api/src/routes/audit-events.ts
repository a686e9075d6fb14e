import { AUDIT_ACTIONS, type AuditAction, AuditEvent, page, RunId } from '@carillon/contract';
import { listAuditEvents } from '@carillon/engine';
import { z } from 'zod';
import { MAY_OWN, principalOf } from '../auth.ts';
import type { ApiContext, ZodApp } from '../context.ts';
import { after, failures, idText, pageQuery } from '../schemas.ts';

const Query = z
  .object({
    kind: AuditEvent.shape.kind.optional(),
    action: z.enum(Object.keys(AUDIT_ACTIONS) as [AuditAction, ...AuditAction[]]).optional(),
    subject_type: z
      .string()
      .regex(/^[a-z_]{1,40}$/, 'such as run')
      .optional()
      .describe('What the events are about, with `subject_id`.'),
    subject_id: z
      .string()
      .regex(/^[0-9-]{1,40}$/, 'an id such as 12, or 12-3 for a job')
      .optional(),
    run_id: idText(RunId).optional().describe('The same as `subject_type=run&subject_id=…`.'),
    after: idText(z.number()).optional().describe(after),
    ...pageQuery,
  })
  .refine((query) => (query.subject_type === undefined) === (query.subject_id === undefined), {
    message: 'subject_type and subject_id go together',
  })
  .refine((query) => query.run_id === undefined || query.subject_type === undefined, {
    message: 'run_id and subject_type exclude each other',
  });

export function auditEventRoutes(app: ZodApp, { db }: ApiContext): void {
  app.route({
    method: 'GET',
    url: '/api/audit_events',
    config: { access: MAY_OWN },
    schema: {
      tags: ['Trail'],
      summary: 'The trail: who changed what, when and from where, newest first',
      description:
        'Nothing in it can be changed or removed. `kind=security` shows who tried what is not theirs. It holds ids and ' +
        'never a number or a name of a person.',
      querystring: Query,
      response: { 200: page(AuditEvent), ...failures('invalid_request') },
    },
    handler(request) {
      const { run_id, subject_type, subject_id, ...filter } = request.query;
      const subject =
        run_id !== undefined
          ? { type: 'run', id: String(run_id) }
          : subject_type !== undefined && subject_id !== undefined
            ? { type: subject_type, id: subject_id }
            : undefined;
      return listAuditEvents(db, principalOf(request).business_id, { ...filter, subject });
    },
  });
}
