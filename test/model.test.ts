import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { explore } from '../model/explore.ts';
import { objection, tells, VARIANTS } from '../model/variants.ts';

const installed = (tool: string) => spawnSync(tool, ['--version']).error === undefined;
/** Neither comes from npm; CONTRIBUTING says how to get them. */
const missing = !installed('spin') || !installed('gcc');

const variant = (name: string) => {
  const found = VARIANTS.find((one) => one.name.startsWith(name));
  if (!found) throw new Error(`there is no variant "${name}"`);
  return found;
};

describe('the model of the dial protocol', () => {
  it.skipIf(missing)(
    'holds, and each broken variant breaks what it must',
    () => {
      const check = path.join(import.meta.dirname, '..', 'model', 'check.ts');
      const { status, stdout, stderr } = spawnSync(process.execPath, [check, '--quick'], { encoding: 'utf8' });
      expect(stdout + stderr).toContain('all as expected');
      expect(status).toBe(0);
    },
    1_800_000,
  );

  it.skipIf(missing)(
    'a violation of the right assertion by another mistake is not taken for it',
    () => {
      const [without_t2, without_t5] = [variant('without T2'), variant('without T5')];
      const found = explore(without_t2.switches);
      expect(objection(without_t2, found)).toBeNull();
      // The same, were their stories exchanged: both make a second call.
      expect(objection(without_t5, found)).toBe(`the trace tells ${without_t2.name}`);
      expect(objection({ ...without_t2, breaks: without_t5.breaks }, { ...found, trace: [] })).toBe(
        'the trace tells nothing that is known',
      );
      expect(objection(variant('cancel'), found)).toBe('another assertion was violated');
      expect(objection(variant('the protocol'), found)).toBe('something was violated');
      expect(objection(without_t2, { violated: null, trace: null })).toBe('nothing was violated');
    },
    300_000,
  );
});

describe('a trace', () => {
  const trace = ['worker 1 takes the lease', 'lead 0: attempt 0 is claimed', 'lead 1: attempt 0 calls', 'time passes'];

  it.each([
    ['what happened to a lead and to all, in this order', { tells: ['lease', 'claimed', 'time passes'] }, true],
    ['nothing in another order', { tells: ['claimed', 'lease'] }, false],
    ['nothing twice that happened once', { tells: ['claimed', 'claimed'] }, false],
    ['no story of two leads', { tells: ['claimed', 'calls'] }, false],
    ['no story that something is in which must not be', { tells: ['claimed'], without: ['time passes'] }, false],
    ['a story without what another lead met with', { tells: ['claimed'], without: ['calls'] }, true],
  ])('tells %s', (_, story, expected) => {
    expect(tells(trace, story)).toBe(expected);
  });
});
