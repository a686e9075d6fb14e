import { afterEach, beforeEach, expect, it } from 'vitest';
import { aborted, listenForStop, type StopRequest } from '../src/signals.ts';

let now_ms = 0;
let forced = 0;
let stop: StopRequest;

beforeEach(() => {
  now_ms = 1_000;
  forced = 0;
  stop = listenForStop({ monotonicMs: () => now_ms, wallMs: () => 0 }, () => (forced += 1));
});
afterEach(() => stop.dispose());

const press = (signal: NodeJS.Signals = 'SIGINT') => process.emit(signal, signal);

it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s asks to stop', async (signal) => {
  const stopped = aborted(stop.signal);
  press(signal);
  await stopped;
  expect(stop.signal.aborted).toBe(true);
  expect(forced).toBe(0);
});

it('takes one Ctrl-C for one, though both the terminal and npm pass it on', () => {
  press();
  now_ms += 20;
  press();
  press('SIGTERM');
  expect(forced).toBe(0);
});

it('does not wait any longer after a second Ctrl-C', () => {
  press();
  now_ms += 600;
  press();
  expect(forced).toBe(1);
});

it('listens no more once it is disposed of', () => {
  const before = process.listenerCount('SIGINT');
  stop.dispose();
  expect(process.listenerCount('SIGINT')).toBe(before - 1);
});
