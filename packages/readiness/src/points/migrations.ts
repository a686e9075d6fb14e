import { probeMigrations } from '@carillon/engine';
import type { Check } from '../options.ts';
import type { Finding } from '../prove.ts';

/** Every migration of this release is applied, and none of a newer one; each file is what was applied, by its SHA-256. */
export async function proveMigrations({ db }: Check): Promise<Finding> {
  const { problem, ...evidence } = await probeMigrations(db);
  if (problem) return { ok: false, sentence: problem.sentence, evidence: { ...evidence, code: problem.code } };
  return {
    ok: true,
    sentence: `All ${evidence.newest_version} migrations are applied, each with the checksum of its file`,
    evidence,
  };
}
