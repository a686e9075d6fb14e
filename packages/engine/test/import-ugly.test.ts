import { ListId } from '@carillon/contract';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createBusiness } from '../src/business/create-business.ts';
import { importLeads } from '../src/lead/import.ts';
import type { ImportOptions } from '../src/lead/import-types.ts';
import { createList } from '../src/lead/lists.ts';
import { actor, createFixture, type Fixture } from './support/fixture.ts';
import { csv, membersOf } from './support/leads.ts';
import { UGLY_BOOKS } from './support/ugly-books.ts';
import { UGLY_TEXTS } from './support/ugly-texts.ts';

/** A file as people have them, and what a careful person would make of it by hand. */
export interface UglyFile {
  name: string;
  bytes: string | Buffer;
  options?: Partial<ImportOptions>;
  /** Lines that made a member, in their order: number without +972, and name. */
  leads?: readonly (readonly [phone: string, name: string | null])[];
  duplicates?: number;
  /** Rejected lines, and accepted or duplicate ones with a note, by reason. */
  reasons?: Readonly<Record<string, number>>;
  /** Attributes of the first lead. */
  attributes?: Readonly<Record<string, string>>;
  /** Fields of the report's `file`. */
  file?: object;
  /** Nothing is imported, with this code and these words. */
  error?: readonly [code: string, words: RegExp];
}

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture();
});
afterAll(async () => await fixture.close());

const FILES: readonly UglyFile[] = [...UGLY_TEXTS, ...UGLY_BOOKS];

it('are at least forty, each under a name of its own', () => {
  expect(new Set(FILES.map(({ name }) => name)).size).toBe(FILES.length);
  expect(FILES.length).toBeGreaterThanOrEqual(40);
});

it.each(FILES)(
  '$name',
  async ({ bytes, options, leads = [], duplicates = 0, reasons = {}, attributes, file, error }) => {
    const { business_id } = await createBusiness(fixture.db, { name: 'ugly' }, actor);
    const list_id = ListId.parse((await createList(fixture.db, business_id, { name: 'list' }, actor)).list_id);
    // In pieces that cut characters, quotes and line ends.
    const load = importLeads(fixture.db, business_id, list_id, csv(bytes, 1_021), { actor, ...options });
    if (error) {
      const [code, words] = error;
      await expect(load).rejects.toMatchObject({ code, message: expect.stringMatching(words) });
      expect(await membersOf(fixture, business_id, list_id)).toEqual([]);
      return;
    }
    const report = await load;
    const members = await membersOf(fixture, business_id, list_id);
    expect(members.map((lead) => [lead.phone.replace(/^\+972/, ''), lead.name])).toEqual(leads);
    expect(report).toMatchObject({ accepted: leads.length, duplicates });
    expect(report.reasons).toEqual(reasons);
    expect(report.accepted + report.duplicates + report.rejected).toBe(report.lines);
    if (attributes) expect(members[0]?.attributes).toEqual(attributes);
    if (file) expect(report.file).toMatchObject(file);
  },
);
