import { createReadStream, readFileSync } from 'node:fs';
import path from 'node:path';
import { ListId } from '@carillon/contract';
import { parsePhoneNumberFromString } from 'libphonenumber-js/max';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createBusiness } from '../src/business/create-business.ts';
import { importLeads } from '../src/lead/import.ts';
import { createList } from '../src/lead/lists.ts';
import { actor, createFixture, type Fixture } from './support/fixture.ts';
import { linesOf, membersOf } from './support/leads.ts';

const examples = path.join(import.meta.dirname, '../../../examples');

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture();
});
afterAll(async () => await fixture.close());

async function load() {
  const { business_id } = await createBusiness(fixture.db, { name: 'example' }, actor);
  const list_id = ListId.parse((await createList(fixture.db, business_id, { name: 'leads' }, actor)).list_id);
  const file = createReadStream(path.join(examples, 'leads.csv'));
  const report = await importLeads(fixture.db, business_id, list_id, file, { actor });
  const notes = await linesOf(fixture.db, business_id, report.import_id);
  return { report, notes, members: await membersOf(fixture, business_id, list_id) };
}

/** The rows of the tables in examples/README.md: first cell to number. */
function promised(): Record<string, number> {
  const readme = readFileSync(path.join(examples, 'README.md'), 'utf8');
  return Object.fromEntries(
    [...readme.matchAll(/^\| (\S.*?) \| (\d+) \|$/gm)].map(([, name, count]) => [name, Number(count)]),
  );
}

const tally = (values: string[]): Record<string, number> =>
  Object.fromEntries(
    Map.groupBy(values, (value) => value)
      .entries()
      .map(([value, all]) => [value, all.length]),
  );

it('examples/leads.csv holds what its README says, line by line', async () => {
  const { report, notes } = await load();
  const rejected = notes.filter(([, verdict]) => verdict === 'rejected').map(([, , reason]) => reason ?? '');
  expect({
    'lines, without the header': report.lines,
    accepted: report.accepted,
    duplicates: report.duplicates,
    rejected: report.rejected,
    ...tally(rejected),
  }).toEqual(promised());
  expect(report.accepted + report.duplicates + report.rejected).toBe(report.lines);
  expect(report.accepted).toBeGreaterThanOrEqual(520);
  const duplicates = notes.filter(([, verdict]) => verdict === 'duplicate').map(([, , reason]) => reason);
  expect(new Set(duplicates)).toEqual(new Set(['repeated_in_file']));
});

it('its names are whole, in four scripts, and its numbers are nobody’s', async () => {
  const { members } = await load();
  const names = members.map((lead) => lead.name ?? '');
  for (const script of [/\p{Script=Hebrew}/u, /\p{Script=Arabic}/u, /\p{Script=Cyrillic}/u, /\p{Script=Latin}/u])
    expect(names.filter((name) => script.test(name)).length).toBeGreaterThan(8);
  expect(names).toContain('לוי, אביגיל');
  expect(names).toContain('ישראל "שוקי" אלמוג');
  expect(names.some((name) => name.startsWith('ד"ר '))).toBe(true);
  expect(names.every((name) => name !== '' && name.trim() === name)).toBe(true);
  expect(members.some((lead) => lead.attributes.הערות === 'להתקשר אחרי 17:00\nלא ביום שישי')).toBe(true);

  // The largest metadata knows the ranges that are given out; ours must be in none of them.
  const israeli = members.filter((lead) => lead.phone.startsWith('+972'));
  expect(israeli.filter((lead) => parsePhoneNumberFromString(lead.phone)?.isValid())).toEqual([]);
  const fiction = /^\+1\d{3}55501\d\d$|^\+447700900\d{3}$|^\+442079460\d{3}$|^\+3319900\d{4}$/;
  const foreign = members.filter((lead) => !lead.phone.startsWith('+972'));
  expect(foreign).toHaveLength(10);
  expect(foreign.filter((lead) => !fiction.test(lead.phone))).toEqual([]);
});
