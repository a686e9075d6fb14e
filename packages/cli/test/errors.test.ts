import { CarillonError } from '@carillon/contract';
import { MigrateError, openDatabase, ping } from '@carillon/engine';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createTestDatabase } from '../../../test/support/database.ts';
import { ConfigError } from '../src/config.ts';
import { describeFailure, isUnreachable, wrongUse } from '../src/errors.ts';

/** What a connection to `url` fails with. */
async function connectionError(url: string): Promise<unknown> {
  const db = openDatabase({ app_url: url, connect_timeout_ms: 2_000 });
  onTestFinished(() => db.close());
  return await ping(db).catch((error: unknown) => error);
}

describe('a failure is told', () => {
  it('with the code that the table of errors has for it', () => {
    expect(describeFailure(new CarillonError('run_not_found'))).toMatchObject({
      code: 'run_not_found',
      sentence: 'Run not found',
      exit_code: 1,
    });
    expect(describeFailure(new MigrateError('migration_busy', 'busy'))).toMatchObject({ code: 'migration_busy' });
  });

  it('as wrong use with 2, and every problem of a configuration', () => {
    expect(describeFailure(wrongUse('invalid_run', 'no'))).toMatchObject({ exit_code: 2, details: [] });
    expect(describeFailure(new ConfigError(['a', 'b']))).toMatchObject({ exit_code: 2, details: ['a', 'b'] });
    expect(describeFailure(new ConfigError(['a']))).toMatchObject({ sentence: 'a', details: [] });
    expect(describeFailure(new ConfigError(['a'], ['hint']))).toMatchObject({ details: ['a', 'hint'] });
  });

  it('without a stack, and with a way to see it, where nobody expected it', () => {
    const { code, sentence } = describeFailure(new TypeError('x is not a function'));
    expect(code).toBe('internal');
    expect(sentence).toBe('x is not a function (CARILLON_LOG_LEVEL=debug shows where this comes from)');
  });
});

describe('a database', () => {
  it('that nobody runs is unreachable', async () => {
    const error = await connectionError('postgres://app:x@127.0.0.1:1/none');
    expect(isUnreachable(error)).toBe(true);
    expect(describeFailure(error)).toMatchObject({
      code: 'database_unavailable',
      sentence: expect.stringContaining('ECONNREFUSED'),
    });
  });

  it('whose host nobody knows is unreachable', async () => {
    expect(isUnreachable(await connectionError('postgres://app:x@host.invalid:1/none'))).toBe(true);
  });

  it('that refuses the login, or does not exist, is another matter: waiting would not help', async () => {
    const database = await createTestDatabase();
    onTestFinished(() => database.drop());
    const wrong = new URL(database.appUrl);
    wrong.password = 'wrong';
    const refused = await connectionError(wrong.toString());
    expect(isUnreachable(refused)).toBe(false);
    expect(describeFailure(refused)).toMatchObject({ code: 'login_refused' });
    const elsewhere = new URL(database.appUrl);
    elsewhere.pathname = '/not_there';
    expect(describeFailure(await connectionError(elsewhere.toString()))).toMatchObject({ code: 'database_missing' });
  });
});
