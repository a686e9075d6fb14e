import { faultPoint, FAULT_POINT_NAMES, FAULT_POINTS, setFaultHandler } from '@carillon/contract';
import { afterEach, describe, expect, it } from 'vitest';
import { ConfigError, readConfig } from '../src/config.ts';
import { installFault } from '../src/faults.ts';

afterEach(() => setFaultHandler(null));

function faultOf(text: string) {
  return readConfig({ CARILLON_FAULT: text }).config.fault;
}

describe('the list of fault points', () => {
  it('says of each in a sentence what is at stake there, and of no two the same', () => {
    const said = Object.values(FAULT_POINTS).flatMap((moments) => Object.values(moments));
    expect(said.filter((sentence) => sentence.split(' ').length < 6)).toEqual([]);
    expect(new Set(said).size).toBe(FAULT_POINT_NAMES.length);
  });
});

describe('CARILLON_FAULT', () => {
  it('takes every point of the list, with what is to happen at which passing', () => {
    for (const point of FAULT_POINT_NAMES)
      expect(faultOf(`${point}:kill:2`)).toEqual({ point, action: 'kill', hit: 2, delay_ms: 0, whom: null });
    expect(faultOf('claim.committed:stop')).toMatchObject({ action: 'stop', hit: 1 });
    expect(faultOf('dial.before_body:delay:3:500')).toMatchObject({ action: 'delay', hit: 3, delay_ms: 500 });
    expect(faultOf('dial.before_connect:kill@+97231234567')).toMatchObject({ action: 'kill', whom: '+97231234567' });
  });

  it.each([
    'claim.commited:kill:1',
    'claim:kill',
    'claim.committed',
    'claim.committed:explode:1',
    'claim.committed:kill:0',
    'claim.committed:kill:1:500',
    'claim.committed:delay:1',
    'dial.before_connect:kill@somebody',
  ])('refuses %s, and names the list', (text) => {
    const problems = (): readonly string[] => {
      try {
        faultOf(text);
        return [];
      } catch (error) {
        return error instanceof ConfigError ? error.problems : [];
      }
    };
    expect(problems()).toEqual([expect.stringMatching(/^CARILLON_FAULT is ".*": expected .*fault-points\.ts/)]);
  });

  it('warns that the process is for tests; without it there is no warning and no handler', () => {
    expect(readConfig({ CARILLON_FAULT: 'claim.committed:kill:2' }).warnings).toEqual([
      expect.stringContaining('for tests'),
    ]);
    expect(readConfig({}).config.fault).toBeUndefined();
    expect(() => faultPoint('claim', 'committed')).not.toThrow();
  });

  it('happens at the passing that was asked for, and at no other, nor at another point', () => {
    installFault({ point: 'claim.committed', action: 'fail', hit: 2, delay_ms: 0, whom: null });
    faultPoint('claim', 'committed');
    faultPoint('claim', 'before_commit');
    faultPoint('settle', 'committed');
    expect(() => faultPoint('claim', 'committed')).toThrow('the fault that was asked for at claim.committed');
    expect(() => faultPoint('claim', 'committed')).not.toThrow();
  });

  it('happens for one number alone, each time that it is dialled', () => {
    installFault({ point: 'dial.before_connect', action: 'fail', hit: 1, delay_ms: 0, whom: '+97231234567' });
    faultPoint('dial', 'before_connect', '+97231234568');
    for (const _ of [1, 2])
      expect(() => faultPoint('dial', 'before_connect', '+97231234567')).toThrow('dial.before_connect');
  });

  it('delays the whole process', () => {
    installFault({ point: 'dial.before_body', action: 'delay', hit: 1, delay_ms: 60, whom: null });
    const before_ms = performance.now();
    faultPoint('dial', 'before_body');
    expect(performance.now() - before_ms).toBeGreaterThanOrEqual(55);
  });
});
