import type { Readable } from 'node:stream';
import type { FastifyInstance, FastifyRequest } from 'fastify';

/**
 * What may stand in a log: no phone number, no token, no key. So requests are logged by their route and never by their
 * address, and errors without the fields in which a database quotes rows.
 */

const TOKEN_OR_NUMBER = /^.{20,}$|\d{7}/;

/** Callback addresses carry a token, and mistaken ones anything; what may be a token or a phone number is left out. */
export function redactPath(url: string): string {
  const [path = ''] = url.split('?', 1);
  return path
    .slice(0, 300)
    .split('/')
    .map((segment) => (TOKEN_OR_NUMBER.test(segment) ? '[redacted]' : segment))
    .join('/');
}

export interface LoggedError {
  name: string;
  message: string;
  code?: unknown;
  constraint?: unknown;
  stack?: string | undefined;
  cause?: LoggedError;
}

const CAUSES_DEEP = 3;

/** An error as a log may show it. */
export function describeError(error: unknown, depth = 0): LoggedError {
  if (!(error instanceof Error)) return { name: typeof error, message: String(error).slice(0, 200) };
  return {
    name: error.name,
    message: error.message,
    stack: error.stack,
    ...('code' in error ? { code: error.code } : {}),
    ...('constraint' in error ? { constraint: error.constraint } : {}),
    ...(error.cause !== undefined && depth < CAUSES_DEEP ? { cause: describeError(error.cause, depth + 1) } : {}),
  };
}

/** One line for each answer; those of carriers and of probes only when somebody debugs. */
export function logAnswers(app: FastifyInstance): void {
  app.addHook('onResponse', async (request, reply) => {
    const { access } = request.routeOptions.config;
    const quiet = access === 'public' || access === 'signed';
    request.log[quiet ? 'debug' : 'info'](
      {
        method: request.method,
        route: routeOf(request),
        status: reply.statusCode,
        took_ms: Math.round(reply.elapsedTime),
        business_id: request.principal?.business_id,
        key_id: request.principal?.key_id,
      },
      'answered',
    );
  });
}

/** An answer that breaks off after its beginning has left: all that can be done is to say so here. */
export function logBroken<T extends Readable>(request: FastifyRequest, stream: T): T {
  stream.once('error', (error) =>
    request.log.warn({ route: routeOf(request), error: describeError(error) }, 'an answer broke off'),
  );
  return stream;
}

/** The route's pattern; for an address that leads nowhere, the address without what may be secret in it. */
export function routeOf(request: FastifyRequest): string {
  return request.routeOptions.url ?? redactPath(request.url);
}

const IDS_IN_BODIES = ['run_id', 'list_id', 'carrier_account_id'];
/** A token is longer, and ten digits are more likely a phone number than an id that was ever given out. */
const LIKE_AN_ID = /^(?!.*\d{10})[A-Za-z0-9-]{1,20}$/;

/** The ids that a request names, for the trail of who tried to see what. Never a token or a lead's data. */
export function idsOf(request: FastifyRequest): Record<string, string> {
  const body = fieldsOf(request.body).filter(([name]) => IDS_IN_BODIES.includes(name));
  const named = [...fieldsOf(request.params), ...body];
  return Object.fromEntries(
    named.map(([name, value]) => {
      const text = textOf(value);
      return [name, LIKE_AN_ID.test(text) ? text : '[redacted]'];
    }),
  );
}

/** A job's id has been read into its parts by then. */
function textOf(value: unknown): string {
  const is_job = typeof value === 'object' && value !== null && 'run_id' in value && 'seq' in value;
  return is_job ? `${value.run_id}-${value.seq}` : String(value);
}

function fieldsOf(value: unknown): [string, unknown][] {
  return typeof value === 'object' && value !== null ? Object.entries(value) : [];
}
