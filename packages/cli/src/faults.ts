import { writeSync } from 'node:fs';
import { FAULT_POINT_NAMES, setFaultHandler } from '@carillon/contract';
import { z } from 'zod';

const ACTIONS = ['kill', 'stop', 'delay', 'fail'] as const;

/** What is to happen to this process, and at which passing of which point. For tests. */
export interface Fault {
  /** One of FAULT_POINT_NAMES. */
  point: string;
  action: (typeof ACTIONS)[number];
  /** 1: the first time that the point is passed. */
  hit: number;
  /** How long a delay takes; the whole process stands still meanwhile. */
  delay_ms: number;
  /** Only where this number is dialled, and each time that it is. */
  whom: string | null;
}

const FORM = /^([a-z_.]+):([a-z]+)(?:@(\+\d{7,15})|(?::([1-9]\d{0,5}))?(?::([1-9]\d{0,5}))?)$/;
const Parts = z.object({
  point: z.string().refine((name) => FAULT_POINT_NAMES.includes(name)),
  action: z.enum(ACTIONS),
  hit: z.coerce.number().default(1),
  delay_ms: z.coerce.number().default(0),
  whom: z.string().nullable().default(null),
});

/** Completes "expected …". */
export const FAULT_FORM =
  'a point of packages/contract/src/fault-points.ts with kill, stop, fail or delay, at which passing, and for a delay its milliseconds, such as claim.committed:kill:2 or dial.before_body:delay:1:500; or for one number, dial.before_connect:kill@+97231234567';

export const faultText = z.string().transform((text, context): Fault => {
  const [, point, action, whom, hit, delay_ms] = FORM.exec(text) ?? [];
  const parsed = Parts.safeParse({ point, action, whom, hit, delay_ms });
  if (parsed.success && (parsed.data.action === 'delay') === (delay_ms !== undefined)) return parsed.data;
  context.addIssue('no fault');
  return z.NEVER;
});

/** Makes this process meet the fault; what it does there stands on standard error before it does it. */
export function installFault(fault: Fault): void {
  let passed = 0;
  setFaultHandler((place, moment, whom) => {
    if (`${place}.${moment}` !== fault.point || (fault.whom !== null && whom !== fault.whom)) return;
    if (++passed !== fault.hit && fault.whom === null) return;
    // Written and done in one go: a killed process writes nothing any more.
    writeSync(2, `carillon: fault point ${fault.point}, passing ${passed}: ${fault.action}\n`);
    meet(fault);
  });
}

function meet({ point, action, delay_ms }: Fault): void {
  if (action === 'kill') process.kill(process.pid, 'SIGKILL');
  else if (action === 'stop') process.kill(process.pid, 'SIGSTOP');
  else if (action === 'delay') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, delay_ms);
  else throw new Error(`the fault that was asked for at ${point}`);
}
