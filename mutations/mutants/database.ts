import type { Equivalent, Mutant } from '../mutant.ts';

const DATABASE = 'packages/engine/src/db/database.ts';
const ACCESS = 'packages/engine/src/db/access-table.ts';
const SESSION = 'packages/engine/src/db/migration-session.ts';
const TRANSACTIONS = 'packages/engine/test/transactions.test.ts';

export const databaseMutants: Mutant[] = [
  {
    name: 'row-guard',
    what: 'the guard: another number of rows than was promised',
    file: DATABASE,
    find: 'if (touched === expected) return;',
    replace: 'if (touched !== -1) return;',
    catcher: { test: TRANSACTIONS, title: 'is rolled back when a guard does not hold' },
  },
  {
    name: 'retry-deadlock',
    what: 'that a deadlock is tried again',
    file: DATABASE,
    find: "'40P01', ",
    replace: '',
    catcher: { test: TRANSACTIONS, title: 'is tried again after a deadlock' },
  },
  {
    name: 'retry-serialisation',
    what: 'that a serialisation failure is tried again',
    file: DATABASE,
    find: "'40001', ",
    replace: '',
    catcher: { test: TRANSACTIONS, title: 'is tried again after a serialisation failure' },
  },
  {
    name: 'retry-stale-plan',
    what: 'that a plan which a migration has outdated is tried again',
    file: DATABASE,
    find: ', STALE_PLAN]);',
    replace: ']);',
    catcher: { test: TRANSACTIONS, title: 'is tried again on a fresh connection after a migration' },
  },
  {
    name: 'stale-plan-connection',
    what: 'that the connection with the outdated plan is given up',
    file: DATABASE,
    find: '!rolledBack || sqlState(failure ?? error) === STALE_PLAN',
    replace: '!rolledBack',
    catcher: { test: TRANSACTIONS, title: 'is tried again on a fresh connection after a migration' },
  },
  {
    name: 'retry-bounded',
    what: 'the bound of tries',
    file: DATABASE,
    find: 'tries > RETRIES || ',
    replace: '',
    catcher: { test: TRANSACTIONS, title: 'is given up after five more tries' },
  },
  {
    name: 'set-local',
    what: 'SET LOCAL: the business outlives its transaction',
    file: DATABASE,
    find: 'SET LOCAL carillon.business_id',
    replace: 'SET carillon.business_id',
    catcher: { test: TRANSACTIONS, title: 'leaves no business behind on its connection' },
  },
  {
    name: 'first-failure',
    what: 'that the first failure of a transaction is thrown',
    file: DATABASE,
    find: 'const fail = (error: unknown) => (failure ??= error);',
    replace: 'const fail = (error: unknown) => (failure = error);',
    catcher: { test: TRANSACTIONS, title: 'throws its first failure' },
  },
  {
    name: 'writes-waited-for',
    what: 'that COMMIT waits for every write',
    file: DATABASE,
    find: '    await Promise.allSettled(sent);\n    if (failure) throw failure;\n',
    replace: '',
    catcher: { test: TRANSACTIONS, title: 'is rolled back when a guard does not hold' },
  },
  {
    name: 'one-statement',
    what: 'the extended protocol: several statements in one',
    file: DATABASE,
    find: "values: params as unknown[], queryMode: 'extended' }",
    replace: "values: params as unknown[], queryMode: 'simple' as never }",
    catcher: { test: TRANSACTIONS, title: 'takes one statement at a door without a business' },
  },
  {
    name: 'idle-in-transaction',
    what: 'the end of a transaction whose process was stopped',
    file: DATABASE,
    find: 'options.idle_in_transaction_timeout_ms ?? 20_000',
    replace: '0 * (options.idle_in_transaction_timeout_ms ?? 0)',
    catcher: { test: TRANSACTIONS, title: 'that stands still is ended by the server' },
  },
  {
    name: 'idle-in-transaction-of-the-role',
    what: 'the same, of the login',
    file: ACCESS,
    find: 'idle_in_transaction_session_timeout: String',
    replace: 'statement_timeout: String',
    catcher: { test: 'packages/engine/test/access.test.ts' },
  },
  {
    name: 'silent-statement',
    what: 'the end of a statement whose answer does not come',
    file: DATABASE,
    find: 'query_timeout: options.query_timeout_ms ?? 60_000,',
    replace: '',
    catcher: { test: TRANSACTIONS, title: 'whose answer does not come gives its connection up' },
  },
  {
    name: 'migrate-lock',
    what: 'the lock that lets one migration run at a time',
    file: SESSION,
    find: 'if (row?.locked) return;',
    replace: 'if (row) return;',
    catcher: { test: 'packages/engine/test/migrate.test.ts', title: 'waits for another no longer than it was told' },
  },
  {
    name: 'migrate-lock-waited-for',
    what: 'the end of the wait for another migration',
    file: SESSION,
    find: 'if (waited_ms >= wait_ms)',
    replace: 'if (waited_ms > 1e9)',
    catcher: { test: 'packages/engine/test/migrate.test.ts', title: 'waits for another no longer than it was told' },
  },
  {
    name: 'commit-not-answered',
    what: 'that a transaction whose COMMIT was not answered is not run again by itself',
    file: 'packages/engine/src/db/patience.ts',
    find: 'if (unknown && !mine.repeatable) throw new OutcomeUnknownError(error);',
    replace: '',
    catcher: {
      test: 'packages/engine/test/patience.test.ts',
      title: 'leaves open whether it was done, and is never tried again by itself',
    },
  },
];

export const databaseEquivalents: Equivalent[] = [
  {
    file: DATABASE,
    what: 'the look whether COMMIT was answered with ROLLBACK',
    why: 'a transaction in which a statement failed is thrown before COMMIT is sent; the look stands behind that',
  },
];
