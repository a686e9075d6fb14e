import { Readable } from 'node:stream';
import { Import, ImportId, ImportReport, ListId, page } from '@carillon/contract';
import { ENCODINGS, getImport, importLeads, listImports, rejectedLines } from '@carillon/engine';
import { z } from 'zod';
import { actorOf, MAY_MANAGE, MAY_READ, principalOf } from '../auth.ts';
import type { ApiContext, ZodApp } from '../context.ts';
import { chooseLanguage } from '../language.ts';
import { logBroken } from '../logging.ts';
import { after, EventHeaders, failures, IdempotencyHeaders, idText, pageQuery, text } from '../schemas.ts';
import { sendEvents } from '../sse.ts';
import { FILE_TYPES, takeUploads, UPLOAD_TYPES, uploadedFile } from '../uploads.ts';

const column = (what: string) =>
  z.string().min(1).max(200).optional().describe(`The header of the column with ${what}, when it is not recognised.`);

const ImportQuery = z.strictObject({
  country: z
    .string()
    .regex(/^[A-Za-z]{2}$/, 'two letters such as IL')
    .optional()
    .describe("Where numbers without a country code belong; the business's country when left out."),
  encoding: z.enum(ENCODINGS).optional().describe('Of text; recognised when left out.'),
  sheet: z.string().min(1).max(200).optional().describe('Of a workbook; the first visible one when left out.'),
  phone: column('the phone numbers'),
  name: column('the names'),
  external_id: column("the CRM's own ids"),
  time_zone: column('IANA time zones'),
  extension: column('the extensions'),
  consent_source: column('where each person agreed to be called'),
  consent_at: column('the time at which they did'),
  consent_text: column('the words to which they did'),
});

/** Routes of files: in a scope of their own, where bodies are streams. */
export async function importRoutes(app: ZodApp, context: ApiContext): Promise<void> {
  await takeUploads(app, context.api_limits.import_body_bytes);
  importRoute(app, context);
  standingRoutes(app, context);
  rejectedRoute(app, context);
}

function importRoute(app: ZodApp, { db, api_limits }: ApiContext): void {
  app.route({
    method: 'POST',
    url: '/api/lists/:list_id/import',
    config: { access: MAY_MANAGE, expects: UPLOAD_TYPES },
    schema: {
      tags: ['Lists'],
      summary: 'Import a file into a list',
      description:
        'CSV (with commas, semicolons, tabs or bars; UTF-8, UTF-16, windows-1255 or windows-1252), NDJSON or XLSX, ' +
        'recognised by its content, with headers in English or Hebrew. Every line is counted once: `accepted`, ' +
        '`duplicates` or `rejected`; the last two can be fetched from `rejected_url` with line and reason. The list ' +
        'takes the whole file or nothing. With an `Idempotency-Key` the same request with the same file gets the ' +
        'report again. Follow it at `/api/lists/{list_id}/imports`.',
      consumes: [...FILE_TYPES, 'multipart/form-data'],
      params: z.object({ list_id: idText(ListId) }),
      querystring: ImportQuery,
      headers: IdempotencyHeaders,
      response: {
        200: ImportReport,
        ...failures(
          'list_not_found',
          'import_in_progress',
          'idempotency_conflict',
          'import_file_empty',
          'import_no_lines',
          'import_not_text',
          'import_encoding_unknown',
          'import_format_unsupported',
          'import_no_phone_column',
          'import_phone_column_ambiguous',
          'import_sheet_not_found',
          'import_broken',
          'import_damaged',
          'import_unpacks_too_large',
          'import_no_space',
          'database_full',
          'invalid_request',
          'body_too_large',
          'unsupported_media_type',
        ),
      },
    },
    handler: async (request) => {
      const { business_id } = principalOf(request);
      const { country, encoding, sheet, ...mapping } = request.query;
      const file = uploadedFile(request, api_limits.import_body_bytes);
      return await importLeads(db, business_id, request.params.list_id, file, {
        actor: actorOf(request),
        country,
        encoding,
        sheet,
        mapping,
        idempotency_key: request.headers['idempotency-key'],
      });
    },
  });
}

const ImportParams = z.object({ import_id: idText(ImportId) });

function standingRoutes(app: ZodApp, context: ApiContext): void {
  const { db } = context;
  app.route({
    method: 'GET',
    url: '/api/lists/:list_id/imports',
    config: { access: MAY_READ },
    schema: {
      tags: ['Lists'],
      summary: "A list's imports, newest first, the one that runs included",
      params: z.object({ list_id: idText(ListId) }),
      querystring: z.object({ after: idText(ImportId).optional().describe(after), ...pageQuery }),
      response: { 200: page(Import), ...failures('list_not_found', 'invalid_request') },
    },
    handler: (request) => listImports(db, principalOf(request).business_id, request.params.list_id, request.query),
  });
  app.route({
    method: 'GET',
    url: '/api/imports/:import_id',
    config: { access: MAY_READ },
    schema: {
      tags: ['Lists'],
      summary: 'One import as it stands',
      params: ImportParams,
      response: { 200: Import, ...failures('import_not_found') },
    },
    handler: (request) => getImport(db, principalOf(request).business_id, request.params.import_id),
  });
  app.route({
    method: 'GET',
    url: '/api/imports/:import_id/events',
    config: { access: MAY_READ },
    schema: {
      tags: ['Lists'],
      summary: 'Follow an import (server-sent events)',
      description:
        'Events named `import`, each with the import as JSON in `data`: at once, and as it goes on. Otherwise as the ' +
        'events of a run.',
      params: ImportParams,
      headers: EventHeaders,
      response: {
        200: text('text/event-stream', 'The stream'),
        204: z.undefined().describe('The import is over, and its last state is the one named by Last-Event-ID'),
        ...failures('import_not_found', 'too_many_streams'),
      },
    },
    async handler(request, reply) {
      const { business_id } = principalOf(request);
      const read = () => getImport(db, business_id, request.params.import_id);
      return sendEvents(request, reply, context, business_id, {
        name: 'import',
        first: await read(),
        read,
        changedAt: (state) => state.touched_at,
        isFinal: ({ state }) => state !== 'running',
      });
    },
  });
}

function rejectedRoute(app: ZodApp, { db }: ApiContext): void {
  app.route({
    method: 'GET',
    url: '/api/imports/:import_id/rejected.csv',
    config: { access: MAY_MANAGE },
    schema: {
      tags: ['Lists'],
      summary: 'The lines of an import that made no new member, with the reasons',
      description:
        'Accepted lines that a person should look at are among them. Explanations in the language of ' +
        "`Accept-Language`, else the business's. Safe to open in a spreadsheet: what looks like a formula has an " +
        'apostrophe in front.',
      params: ImportParams,
      response: {
        200: text('text/csv', 'line, verdict, reason, explanation, original'),
        ...failures('import_not_found'),
      },
    },
    async handler(request, reply) {
      const { import_id } = request.params;
      const { business_id, language: own } = principalOf(request);
      const language = chooseLanguage(request.headers['accept-language'], own);
      const lines = rejectedLines(db, business_id, import_id, language);
      // The first line is fetched before anything is answered: only then an import that is not there is a 404.
      const first = await lines.next();
      const stream = Readable.from(prepend(first.value ?? '', lines), { objectMode: false });
      return reply
        .type('text/csv; charset=utf-8')
        .header('content-language', language)
        .header('content-disposition', `attachment; filename="rejected-${import_id}.csv"`)
        .send(logBroken(request, stream));
    },
  });
}

async function* prepend(first: string, rest: AsyncIterable<string>): AsyncGenerator<string> {
  yield first;
  yield* rest;
}
