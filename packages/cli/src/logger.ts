import pino, { type Logger } from 'pino';
import type { LogLevel } from './config-table.ts';

/** Fields that are never written, at the top and two levels down. */
const SECRET_FIELDS = [
  'authorization',
  'auth_token',
  'cookie',
  'key',
  'password',
  'phone',
  'private_key_pem',
  'secret',
  'secret_key',
  'signature',
  'signing_key_secret',
  'token',
  'to',
  'from',
  'to_number',
  'from_number',
];

/**
 * The process's log, as JSON lines. What must not be in it is taken out twice: by the field's name, and by its looks
 * wherever it stands, since an error's message may quote anything.
 */
export function createLogger(level: LogLevel, write: (line: string) => void): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: withoutStack(level), error: withoutStack(level) },
      redact: {
        paths: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`, `*.*.${field}`]),
        censor: '[redacted]',
      },
      hooks: { streamWrite: redactText },
    },
    { write },
  );
}

/** Where an error comes from is for whoever debugs. */
function withoutStack(level: LogLevel) {
  return (error: unknown): unknown => {
    const shown: unknown = error instanceof Error ? pino.stdSerializers.err(error) : error;
    if (level === 'debug' || typeof shown !== 'object' || shown === null) return shown;
    return Object.fromEntries(Object.entries(shown).filter(([name]) => name !== 'stack'));
  };
}

/** Phone numbers, API keys, callback tokens and passwords in URLs, wherever they stand. */
export function redactText(text: string): string {
  return text
    .replace(/(\+|%2B)[1-9]\d{6,14}/g, '$1[number]')
    .replace(/\bck_(\d+)_(\d+)_[A-Za-z0-9_-]+/g, 'ck_$1_$2_[redacted]')
    .replace(/(\/carriers\/(?:[^/\s"]+\/){6})[A-Za-z0-9_-]{22}/g, '$1[redacted]')
    .replace(/\b([a-z]+:\/\/[^\s:/@"]+):[^\s@/"]+@/g, '$1:[redacted]@')
    .replace(/-----BEGIN [A-Z ]*PRIVATE KEY-----[^"]*/g, '[private key]')
    .replace(/\b(Bearer|Basic) [A-Za-z0-9+/=._-]{8,}/g, '$1 [redacted]');
}

const PinoLine = { level: 'info', msg: '', time: '' };

/** A log line as a person reads it beside a moving display; what is no log line stays as it is. */
export function humanLine(line: string): string {
  try {
    const entry: Partial<typeof PinoLine> & { err?: { message?: string } } = JSON.parse(line);
    const why = entry.err?.message ? `: ${entry.err.message}` : '';
    return `${entry.level ?? PinoLine.level}: ${entry.msg ?? ''}${why}`;
  } catch {
    return line.trimEnd();
  }
}
