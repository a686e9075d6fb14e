import { Readable } from 'node:stream';
import { RunId } from '@carillon/contract';
import { exportRun } from '@carillon/engine';
import { z } from 'zod';
import { MAY_MANAGE, principalOf } from '../auth.ts';
import type { ApiContext, ZodApp } from '../context.ts';
import { chooseLanguage } from '../language.ts';
import { logBroken } from '../logging.ts';
import { failures, idText, text } from '../schemas.ts';

const ExportQuery = z.strictObject({
  lang: z.enum(['en', 'he']).optional().describe('Of the header line; else as `Accept-Language` says.'),
  rows: z
    .enum(['leads', 'attempts'])
    .default('leads')
    .describe('A line for each lead with its last attempt, or one for each attempt.'),
});

export function exportRoutes(app: ZodApp, { db }: ApiContext): void {
  app.route({
    method: 'GET',
    url: '/api/outbound/runs/:run_id/export.csv',
    config: { access: MAY_MANAGE },
    schema: {
      tags: ['Runs'],
      summary: 'A run as CSV: its leads with attempts and attributes',
      description:
        'UTF-8 with a byte order mark, and safe to open in a spreadsheet: what looks like a formula, numbers with a plus ' +
        'among it, has an apostrophe in front. Streamed at any size; each line is true as of the moment when its page ' +
        'was read, so the export of a run that goes on is no single moment of it.',
      params: z.object({ run_id: idText(RunId) }),
      querystring: ExportQuery,
      response: {
        200: text('text/csv', 'seq, lead_id, phone, name, …, an attribute a column, other_attributes'),
        ...failures('run_not_found', 'invalid_request'),
      },
    },
    async handler(request, reply) {
      const { business_id, language } = principalOf(request);
      const { run_id } = request.params;
      const { rows, lang } = request.query;
      const chosen = lang ?? chooseLanguage(request.headers['accept-language'], language);
      const pieces = exportRun(db, business_id, run_id, { rows, language: chosen });
      // The first piece is fetched before anything is answered: only then a run that is not there is a 404.
      const first = await pieces.next();
      // A piece is asked for when the one before has left, so a slow reader costs no memory; one that leaves ends it.
      const stream = Readable.from(prepend(first.value ?? '', pieces), { objectMode: false, highWaterMark: 1 });
      return reply
        .type('text/csv; charset=utf-8')
        .header('content-language', chosen)
        .header('content-disposition', `attachment; filename="run-${run_id}.csv"`)
        .header('cache-control', 'no-store')
        .send(logBroken(request, stream));
    },
  });
}

async function* prepend(first: string, rest: AsyncIterable<string>): AsyncGenerator<string> {
  yield first;
  yield* rest;
}
