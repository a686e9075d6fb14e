import { expect, it } from 'vitest';
import { createLogger, humanLine, redactText } from '../src/logger.ts';

const KEY = `ck_12_34_${'k'.repeat(32)}`;
const TOKEN = 'A'.repeat(22);

function logged(write: (log: ReturnType<typeof createLogger>) => void, level: 'debug' | 'info' = 'info') {
  const lines: string[] = [];
  write(createLogger(level, (line) => lines.push(line)));
  return lines.join('');
}

it('writes one JSON object a line, with the level as a word', () => {
  const line = logged((log) => log.info({ run_id: 5 }, 'claimed'));
  expect(JSON.parse(line)).toMatchObject({ level: 'info', run_id: 5, msg: 'claimed' });
  expect(line.endsWith('}\n')).toBe(true);
});

it.each([
  ['auth_token', 'hidden-1'],
  ['authorization', 'Bearer hidden-1'],
  ['key', KEY],
  ['phone', '+972501234567'],
  ['private_key_pem', 'hidden-1'],
  ['to', '+972501234567'],
  ['secret', 'hidden-1'],
])('never writes a field named %s, at the top, or two levels down', (field, value) => {
  const line = logged((log) => {
    log.info({ [field]: value }, 'a');
    log.info({ request: { [field]: value } }, 'b');
    log.info({ call: { request: { [field]: value } } }, 'c');
  });
  expect(line.split('[redacted]').length).toBe(4);
  expect(line).not.toMatch(/hidden|kkkk|1234567/);
});

it('takes numbers, keys, tokens and passwords out of texts and errors, wherever they stand', () => {
  const line = logged((log) =>
    log.error(
      {
        err: new Error(`calling +972501234567 at http://h/carriers/twilio/1/2/3/4/5/${TOKEN}/status failed`),
        url: `postgres://app:hidden@db/x?to=%2B972501234567`,
        note: `Bearer ${KEY}`,
        quoted: '-----BEGIN PRIVATE KEY-----\nhidden\nkkkk\n-----END PRIVATE KEY-----',
      },
      `key ${KEY}`,
    ),
  );
  expect(line).not.toMatch(/1234567|AAAA|hidden|kkkk/);
  expect(line).toContain('/carriers/twilio/1/2/3/4/5/[redacted]/status');
  expect(line).toContain('ck_12_34_[redacted]');
  expect(line).toContain('postgres://app:[redacted]@db');
});

it('leaves ordinary texts alone', () => {
  const text = 'run 12 of business 3: 1+1 calls at 2026-03-01T10:00:00.000+02:00, http://127.0.0.1:8080/docs';
  expect(redactText(text)).toBe(text);
});

it('shows where errors come from to whoever debugs, and to nobody else', () => {
  const fail = (log: ReturnType<typeof createLogger>) => log.error({ err: new Error('broken') }, 'x');
  expect(logged(fail)).not.toContain('logger.test.ts');
  expect(logged(fail)).toContain('broken');
  expect(logged(fail, 'debug')).toContain('logger.test.ts');
});

it('has a short form for people', () => {
  const line = logged((log) => log.warn({ err: new Error('why') }, 'claim failed; trying again'));
  expect(humanLine(line)).toBe('warn: claim failed; trying again: why');
  expect(humanLine('no JSON\n')).toBe('no JSON');
});
