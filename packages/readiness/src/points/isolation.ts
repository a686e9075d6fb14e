import { type Canary, probeWalls } from '@carillon/engine';
import type { Check } from '../options.ts';
import type { Finding } from '../prove.ts';

const SAID = 5;

/** No business sees, changes, takes or gives rows of another, tried on every table; and nobody may switch that off. */
export async function proveIsolation({ db }: Check, mine: Canary, other: Canary): Promise<Finding> {
  const { tables, breaches } = await probeWalls(db, mine.business_id, other.business_id);
  if (tables === 0) return { ok: false, sentence: 'There is no table to try it on', evidence: { tables } };
  if (breaches.length > 0) {
    const more = breaches.length > SAID ? `; and ${breaches.length - SAID} more` : '';
    const sentence = `The walls between businesses are open: ${breaches.slice(0, SAID).join('; ')}${more}`;
    return { ok: false, sentence, evidence: { tables, breaches } };
  }
  return {
    ok: true,
    sentence: `On each of ${tables} tables another business's rows could not be read, changed, deleted or adopted`,
    evidence: {
      tables,
      tried: ['read', 'update', 'delete', 'adopt', 'no business set', 'policies', 'grants', 'logins'],
    },
  };
}
