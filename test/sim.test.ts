import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { changed } from '../mutations/tree.ts';
import { makePlan } from '../sim/plan.ts';
import { PLANTED } from '../sim/planted.ts';
import { createWorld } from '../sim/world.ts';
import { root } from './tidy/source.ts';

describe('the planted mistakes', () => {
  it('can be planted: what they take away stands once where they say', () => {
    for (const planted of PLANTED) {
      const text = readFileSync(path.join(root, planted.file), 'utf8');
      expect(changed(text, planted), planted.name).not.toBe(text);
    }
  });
});

describe('the plan of a seed', () => {
  it('is the same each time, and has every kind of trouble among a hundred seeds', () => {
    expect(makePlan(7)).toEqual(makePlan(7));
    expect(makePlan(7)).not.toEqual(makePlan(8));
    const plans = Array.from({ length: 100 }, (_, seed) => makePlan(seed));
    const kinds = new Set(plans.flatMap(({ deeds, people }) => [...deeds, ...people].map(({ kind }) => kind)));
    expect([...kinds].toSorted()).toEqual([
      'cancel_job',
      'carrier_down',
      'carrier_mute',
      'database_clock',
      'database_down',
      'kill_api',
      'kill_worker',
      'pause',
      'reconcile',
      'resolve',
      'resume',
      'stop',
      'stop_api',
      'stop_worker',
      'suspend_worker',
      'wall_clock',
    ]);
  });
});

describe('a world', () => {
  it('lets things happen in the order of their times, and nothing for a process that is dead', async () => {
    const world = createWorld(1, true);
    const [living, dead] = [world.createProcess('living'), world.createProcess('dead')];
    const happened: string[] = [];
    const note = (what: string) => () => void happened.push(what);
    world.after(3_000, living, '', note('third'));
    world.after(1_000, living, '', note('first'));
    world.after(2_000, dead, '', note('never'));
    world.after(1_500, null, '', () => world.kill(dead));
    world.drop(world.after(2_500, living, '', note('dropped')));
    await world.runUntil(world.now_us() + 10_000);
    expect(happened).toEqual(['first', 'third']);
  });

  it('keeps what comes for a stopped process, and stops the monotonic clock of a suspended machine', async () => {
    const world = createWorld(1, true);
    const [stopped, suspended] = [world.createProcess('stopped'), world.createProcess('suspended')];
    const heard: { who: string; monotonic_ms: number; wall_ms: number }[] = [];
    const began_ms = stopped.clock.wallMs();
    for (const who of [stopped, suspended]) {
      world.stop(who, 5_000_000, who === suspended);
      world.after(1_000_000, who, '', () => {
        const { clock, name } = who;
        heard.push({ who: name, monotonic_ms: clock.monotonicMs(), wall_ms: clock.wallMs() - began_ms });
      });
    }
    await world.runUntil(world.now_us() + 10_000_000);
    expect(heard.toSorted((a, b) => a.who.localeCompare(b.who))).toEqual([
      { who: 'stopped', monotonic_ms: 5_000, wall_ms: 5_000 },
      { who: 'suspended', monotonic_ms: 0, wall_ms: 5_000 },
    ]);
  });
});
