import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { describe, expect, it } from 'vitest';

const installed = (tool: string) => spawnSync(tool, ['--version']).error === undefined;

describe('the model of the dial protocol', () => {
  // Neither comes from npm; CONTRIBUTING says how to get them.
  it.skipIf(!installed('spin') || !installed('gcc'))(
    'holds, and each broken variant breaks what it must',
    () => {
      const check = path.join(import.meta.dirname, '..', 'model', 'check.ts');
      const { status, stdout, stderr } = spawnSync(process.execPath, [check, '--quick'], { encoding: 'utf8' });
      expect(stdout + stderr).toContain('all as expected');
      expect(status).toBe(0);
    },
    900_000,
  );
});
