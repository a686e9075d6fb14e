import { expect, it } from 'vitest';
import { readMigrations, MIGRATIONS_DIRECTORY } from '../src/db/migration-files.ts';
import { SqlSyntaxError, splitStatements } from '../src/db/split-sql.ts';

const texts = (sql: string) => splitStatements(sql).map((statement) => statement.text);

it.each([
  ['nothing', '  \n -- only a comment;\n /* and; another */ ', []],
  ['empty statements', ';; SELECT 1;;', ['SELECT 1']],
  ['the last one without a semicolon', 'SELECT 1; SELECT 2', ['SELECT 1', 'SELECT 2']],
  ['single quotes, doubled', "SELECT 'a;''b;' ; SELECT 2", ["SELECT 'a;''b;'", 'SELECT 2']],
  ['a backslash, which is no escape', "SELECT '\\'; SELECT 2", ["SELECT '\\'", 'SELECT 2']],
  ['a backslash that is one', "SELECT E'\\';'; SELECT 2", ["SELECT E'\\';'", 'SELECT 2']],
  ['a name that ends in e before a string', "SELECT date'\\'; SELECT 2", ["SELECT date'\\'", 'SELECT 2']],
  ['quoted names', 'SELECT 1 AS "a;""b"; SELECT 2', ['SELECT 1 AS "a;""b"', 'SELECT 2']],
  ['dollar quotes', 'SELECT $$a;$x$;$$; SELECT $x$ $$;$y$ $x$', ['SELECT $$a;$x$;$$', 'SELECT $x$ $$;$y$ $x$']],
  ['a dollar inside a name', 'SELECT a$b$; SELECT c$b$', ['SELECT a$b$', 'SELECT c$b$']],
  ['parameters', 'SELECT $1;SELECT $2', ['SELECT $1', 'SELECT $2']],
  ['comments inside', 'SELECT 1 -- ; no\n + 2; SELECT 3', ['SELECT 1 -- ; no\n + 2', 'SELECT 3']],
  ['nested comments', '/* a /* ; */ ; */ SELECT /* ; */ 1; SELECT 2', ['SELECT /* ; */ 1', 'SELECT 2']],
  ['a quote inside a comment', "-- don't\nSELECT 1; /* don't */ SELECT 2", ['SELECT 1', 'SELECT 2']],
  ['a comment inside a quote', "SELECT '--'; SELECT '/*'", ["SELECT '--'", "SELECT '/*'"]],
  [
    'a rule of two statements',
    'CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2); SELECT 3',
    ['CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2)', 'SELECT 3'],
  ],
  [
    'an SQL function body',
    'CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 2 END; END; SELECT 3',
    [
      'CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 2 END; END',
      'SELECT 3',
    ],
  ],
  [
    'a CASE outside of a body',
    'SELECT CASE WHEN true THEN 1 END; SELECT 2',
    ['SELECT CASE WHEN true THEN 1 END', 'SELECT 2'],
  ],
  ['a column named atomic', 'CREATE TABLE t (atomic int); SELECT 2', ['CREATE TABLE t (atomic int)', 'SELECT 2']],
])('splits at the right semicolons: %s', (_, sql, expected) => {
  expect(texts(sql)).toEqual(expected);
});

it('tells the line on which each statement begins', () => {
  const sql = '-- a\n\nSELECT\n 1;\n/* b\n */ SELECT 2; SELECT 3;\n';
  expect(splitStatements(sql).map((statement) => statement.line)).toEqual([3, 6, 6]);
});

it.each([
  ["SELECT 1;\nSELECT 'a;", 2],
  ['SELECT "a', 1],
  ['\n\nSELECT $x$ $y$ ', 3],
  ['SELECT 1; /* a /* b */', 1],
])('says where a quote or comment began that is never closed: %j', (sql, line) => {
  expect(() => splitStatements(sql)).toThrow(expect.objectContaining({ constructor: SqlSyntaxError, line }));
});

it('cuts the real migrations into statements that begin with a keyword and end with a quote, bracket or word', async () => {
  const files = await readMigrations(MIGRATIONS_DIRECTORY);
  const all = files.flatMap((file) => file.statements.map(({ text }) => text));
  const whole =
    /^(CREATE|ALTER|DROP|COMMENT|INSERT|UPDATE|DELETE|SELECT|ANALYZE|DO|GRANT|REVOKE) [^;]*?(\$\$.*\$\$)?[^;]*$/s;
  expect(all.length).toBeGreaterThan(files.length);
  expect(all.filter((text) => !whole.test(text.replaceAll(/'[^']*'|--[^\n]*/g, '')))).toEqual([]);
});
