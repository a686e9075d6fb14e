import { CarillonError, type ErrorCode, ERRORS, errorSentence, inHebrew } from '@carillon/contract';
import { OutcomeUnknownError, sqlState } from '@carillon/engine';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ApiContext } from './context.ts';
import { isDatabaseOutOfReach } from './database-reach.ts';
import { languageOf } from './language.ts';
import { describeError } from './logging.ts';
import { logSecurity } from './security.ts';
import { InvalidInput } from './validation.ts';

/** One shape for everything that goes wrong, and nothing in it that stands not in the table of errors. */
export function answerErrors(app: FastifyInstance, context: ApiContext): void {
  app.setNotFoundHandler((request, reply) => {
    sendError(request, reply, new CarillonError('route_not_found'));
  });
  app.setErrorHandler((error, request, reply) => {
    const expected = readError(error, request);
    if (!expected) request.log.error({ error: describeError(error) }, 'a request failed');
    else if (ERRORS[expected.code].http === 503)
      request.log.warn({ error: describeError(error) }, 'the database is out of reach');
    else if (expected.code.endsWith('_not_found') && expected.code !== 'route_not_found')
      logSecurity(request, context, 'id_not_visible', { code: expected.code });
    sendError(request, reply, expected ?? new CarillonError('internal'));
  });
}

/** An address that can't even be read. The server's own answer would repeat it, with what may be a token or a number in it. */
export function answerBadAddress(_error: Error, request: FastifyRequest, reply: FastifyReply): void {
  // No hook has run for it that would have set this.
  reply.header('x-request-id', request.id);
  sendError(request, reply, new CarillonError('route_not_found'));
}

function sendError(request: FastifyRequest, reply: FastifyReply, { code, details }: CarillonError): void {
  const language = languageOf(request);
  if (ERRORS[code].http === 503) reply.header('retry-after', RETRY_AFTER_S);
  reply
    .code(ERRORS[code].http)
    .type('application/json; charset=utf-8')
    .header('content-language', language)
    .send({
      error: errorSentence(code, language, details),
      code,
      request_id: request.id,
      ...(Object.keys(details).length > 0 ? { details } : {}),
    });
}

/** Whoever is told to come again has waited for the database already. */
const RETRY_AFTER_S = 5;

/** What a thrown thing is in the table of errors; null for a fault of ours. */
function readError(error: unknown, request: FastifyRequest): CarillonError | null {
  if (error instanceof CarillonError) return error;
  if (error instanceof InvalidInput) return readInvalid(error, request);
  if (error instanceof OutcomeUnknownError) return new CarillonError('outcome_unknown', {}, { cause: error });
  if (sqlState(error) === DISK_FULL) return new CarillonError('database_full', {}, { cause: error });
  if (!(error instanceof Error && 'statusCode' in error))
    return isDatabaseOutOfReach(error) ? new CarillonError('database_unavailable', {}, { cause: error }) : null;
  const { statusCode } = error;
  if (statusCode === 413)
    return new CarillonError('body_too_large', { limit_bytes: request.routeOptions.bodyLimit }, { cause: error });
  if (statusCode === 415) {
    const expected = request.routeOptions.config.expects ?? 'application/json';
    return new CarillonError('unsupported_media_type', { expected }, { cause: error });
  }
  // What the server itself refuses before a route is asked: broken JSON, a body shorter than announced, a bad address.
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500)
    return new CarillonError('invalid_request', { problem: error.message }, { cause: error });
  return null;
}

/** An id in the path that can't be one names nothing: the same answer as for one that is not there. */
const NOT_FOUND: Record<string, ErrorCode> = {
  run_id: 'run_not_found',
  job_id: 'job_not_found',
  list_id: 'list_not_found',
  lead_id: 'lead_not_found',
  import_id: 'import_not_found',
  carrier_account_id: 'carrier_account_not_found',
  key_id: 'key_not_found',
  business_id: 'business_not_found',
};
const ISSUES_SHOWN = 5;

function readInvalid({ issues: all, validationContext: place = 'body' }: InvalidInput, request: FastifyRequest) {
  const language = languageOf(request);
  const issues = all.slice(0, ISSUES_SHOWN).map(({ path, en, he }) => ({
    path,
    // Where the library has left our own words as they are, they have their Hebrew here.
    message: language === 'he' ? inHebrew('problem', he) : en,
  }));
  if (place === 'params') return new CarillonError(NOT_FOUND[issues[0]?.path[0] ?? ''] ?? 'route_not_found');
  if (place === 'body' && (request.body === undefined || request.body === null))
    return new CarillonError('invalid_request', { problem: 'it has no body; send a JSON object', in: place });
  const problem = issues
    .map(({ path, message }) => (path.length === 0 ? message : `${path.join('.')}: ${message}`))
    .join('; ');
  return new CarillonError('invalid_request', { problem, in: place, issues });
}

const DISK_FULL = '53100';
