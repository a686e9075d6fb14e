import { Readable } from 'node:stream';
import { ImportId, ImportReport, ListId } from '@carillon/contract';
import { importLeads, rejectedLines } from '@carillon/engine';
import { z } from 'zod';
import { MAY_MANAGE, principalOf } from '../auth.ts';
import type { ApiContext, ZodApp } from '../context.ts';
import { logBroken } from '../logging.ts';
import { failures, IdempotencyHeaders, idText, text } from '../schemas.ts';
import { takeUploads, UPLOAD_TYPES, uploadedFile } from '../uploads.ts';

const column = (what: string) =>
  z.string().min(1).max(200).optional().describe(`The header of the column with ${what}, when it is not recognised.`);

const ImportQuery = z.strictObject({
  country: z
    .string()
    .regex(/^[A-Za-z]{2}$/, 'two letters such as IL')
    .optional()
    .describe("Where numbers without a country code belong; the business's country when left out."),
  phone: column('the phone numbers'),
  name: column('the names'),
  external_id: column("the CRM's own ids"),
  time_zone: column('IANA time zones'),
});

/** Routes of files: in a scope of their own, where bodies are streams. */
export async function importRoutes(app: ZodApp, context: ApiContext): Promise<void> {
  const { db, api_limits } = context;
  await takeUploads(app, api_limits.import_body_bytes);
  app.route({
    method: 'POST',
    url: '/api/lists/:list_id/import',
    config: { access: MAY_MANAGE, expects: UPLOAD_TYPES },
    schema: {
      tags: ['Lists'],
      summary: 'Import a CSV file into a list',
      description:
        'UTF-8, with a header line in English or Hebrew. Every line is counted once: `accepted`, `duplicates` or ' +
        '`rejected`; the last two can be fetched from `rejected_url` with line and reason. The list takes the whole ' +
        'file or nothing. With an `Idempotency-Key` the same request with the same file gets the report again.',
      consumes: ['text/csv', 'multipart/form-data'],
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
          'import_not_text',
          'import_no_phone_column',
          'import_broken',
          'invalid_request',
          'body_too_large',
          'unsupported_media_type',
        ),
      },
    },
    handler: async (request) => {
      const { business_id } = principalOf(request);
      const { country, ...mapping } = request.query;
      const file = uploadedFile(request, api_limits.import_body_bytes);
      return await importLeads(db, business_id, request.params.list_id, file, {
        country,
        mapping,
        idempotency_key: request.headers['idempotency-key'],
      });
    },
  });
  app.route({
    method: 'GET',
    url: '/api/imports/:import_id/rejected.csv',
    config: { access: MAY_MANAGE },
    schema: {
      tags: ['Lists'],
      summary: 'The lines of an import that made no new member, with the reasons',
      description: 'Safe to open in a spreadsheet: what looks like a formula has an apostrophe in front.',
      params: z.object({ import_id: idText(ImportId) }),
      response: {
        200: text('text/csv', 'line, verdict, reason, explanation, original'),
        ...failures('import_not_found'),
      },
    },
    async handler(request, reply) {
      const { import_id } = request.params;
      const lines = rejectedLines(db, principalOf(request).business_id, import_id);
      // The first line is fetched before anything is answered: only then an import that is not there is a 404.
      const first = await lines.next();
      const stream = Readable.from(prepend(first.value ?? '', lines), { objectMode: false });
      return reply
        .type('text/csv; charset=utf-8')
        .header('content-disposition', `attachment; filename="rejected-${import_id}.csv"`)
        .send(logBroken(request, stream));
    },
  });
}

async function* prepend(first: string, rest: AsyncIterable<string>): AsyncGenerator<string> {
  yield first;
  yield* rest;
}
