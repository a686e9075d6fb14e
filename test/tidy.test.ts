import { describe, expect, it } from 'vitest';
import { documentRules } from './tidy/documents.ts';
import { forbiddenRules } from './tidy/forbidden.ts';
import { GUARANTEES, untrueGuarantees } from './tidy/guarantees.ts';
import { importRules } from './tidy/imports.ts';
import { layoutRules } from './tidy/layout.ts';
import { repository, type Rule, type Sample } from './tidy/source.ts';
import { buildsSql, MAY_BUILD_SQL, sqlRules } from './tidy/sql.ts';
import { namesBusiness, TENANT_EXCEPTIONS, tenantRules, withoutEachTie } from './tidy/tenants.ts';
import { testRules } from './tidy/tests.ts';
import { trailRules } from './tidy/trail.ts';

const rules: Rule[] = [
  ...importRules,
  ...layoutRules,
  ...forbiddenRules,
  ...sqlRules,
  ...tenantRules,
  ...trailRules,
  ...testRules,
  ...documentRules,
];
const files = repository();
const paths = new Set(files.map((file) => file.path));

/** What a rule says of a sample, which it must also cover: a rule that looks elsewhere catches nothing. */
const judge = (rule: Rule, sample: Sample): string[] =>
  rule.covers(sample.path)
    ? rule.find(sample, new Set([sample.path, ...(sample.beside ?? [])])).map(({ why }) => why)
    : [];

it('sees the repository', () => {
  for (const known of ['package.json', 'test/tidy.test.ts', 'packages/engine/src/index.ts']) {
    expect(paths).toContain(known);
  }
});

it('keeps no exception for SQL that nobody needs', () => {
  const needed = files.filter((file) => file.path in MAY_BUILD_SQL && buildsSql(file)).map((file) => file.path);
  expect(needed.toSorted()).toEqual(Object.keys(MAY_BUILD_SQL).toSorted());
});

it('keeps no exception from the rules about tenants for a file that is gone', () => {
  expect(TENANT_EXCEPTIONS.filter((file) => !paths.has(file))).toEqual([]);
});

it('misses each business_id that goes missing from a statement', () => {
  const without = files.flatMap(withoutEachTie);
  expect(without.length).toBeGreaterThan(100);
  const unnoticed = without.filter((file) => namesBusiness.find(file, paths).length === 0);
  expect(unnoticed.map(({ tie }) => tie)).toEqual([]);
});

describe('what docs/guarantees.md says of tests', () => {
  it('is so: each is in the file that it names, under its title', () => {
    const document = files.find((file) => file.path === GUARANTEES);
    const found = document ? untrueGuarantees(document, files) : [{ line: 0, why: 'it is gone' }];
    expect(found, found.map(({ line, why }) => `${GUARANTEES}:${line}: ${why}`).join('\n')).toEqual([]);
  });

  it('would be seen not to be so', () => {
    const text = "describe('a', () => { it('b', f); it.each([1])(`c ${N} d`, f); }); test.skipIf(win)('e', f);";
    const test = { path: 'test/x.test.ts', text };
    const said = (items: string) =>
      untrueGuarantees({ path: GUARANTEES, text: `## What is promised\n\n### One\n\n${items}\n` }, [test]);
    expect(said('- `test/x.test.ts` “a › b”, “a › c … d”\n  and “e”')).toEqual([]);
    expect(said('')).toHaveLength(1);
    const right = '- `test/x.test.ts` “e”';
    for (const wrong of [
      '- `test/y.test.ts` “a › b”',
      '- `test/x.test.ts`',
      `${right}, “b”`,
      `${right}\n\nSee \`test/z.ts\`.`,
    ])
      expect(said(wrong), wrong).toHaveLength(1);
  });
});

describe.each(rules)('$name', (rule) => {
  it('holds', () => {
    const found = files
      .filter((file) => rule.covers(file.path))
      .flatMap((file) => rule.find(file, paths).map(({ line, why }) => `${file.path}:${line}: ${why}`));
    expect(found, found.join('\n')).toEqual([]);
  });

  it('catches a planted offender, and only that', () => {
    expect(rule.offenders).not.toEqual([]);
    for (const sample of rule.offenders) expect(judge(rule, sample), sample.text).not.toEqual([]);
    for (const sample of rule.innocents) expect(judge(rule, sample), sample.text).toEqual([]);
  });
});
