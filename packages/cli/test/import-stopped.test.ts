import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { ListId } from '@carillon/contract';
import { createBusiness, createList, openDatabase } from '@carillon/engine';
import { expect, it, onTestFinished } from 'vitest';
import { createTestDatabase } from '../../../test/support/database.ts';
import { CLI } from '../src/actor.ts';
import { importFile } from '../src/commands/leads.ts';
import { createOutput } from '../src/output.ts';
import { collector } from './support/cli.ts';

it('an import that is stopped before its file is read says so, and does not take the process down', async () => {
  const database = await createTestDatabase();
  onTestFinished(() => database.drop());
  const directory = await mkdtemp(path.join(os.tmpdir(), 'carillon-stopped-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const file = path.join(directory, 'people.csv');
  await writeFile(file, 'phone\n0521234567\n');
  const db = openDatabase({ app_url: database.appUrl });
  onTestFinished(() => db.close());
  const { business_id } = await createBusiness(db, { name: 'A business' }, CLI);
  const list_id = ListId.parse((await createList(db, business_id, { name: 'People' }, CLI)).list_id);
  const output = createOutput({ stdout: collector(), stderr: collector(), json: false, dumb: true });
  const stopped = importFile(
    db,
    business_id,
    { file, bytes: 17, list_id, stop: AbortSignal.abort() },
    { actor: CLI },
    output,
  );
  // An error that nobody listened for would end this run of the tests.
  await expect(stopped).rejects.toMatchObject({ code: 'import_stopped' });
});
