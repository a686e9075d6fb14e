import { z } from 'zod';

/** The seven points, in the order in which they are told. Each is proven on the running installation, not believed. */
export const READINESS_POINTS = [
  'migrations',
  'constraint',
  'cancel',
  'isolation',
  'cursor',
  'reclaim',
  'invariants',
] as const;
export type ReadinessPoint = (typeof READINESS_POINTS)[number];

export const ReadinessResult = z.object({
  /** One of the seven, or what is looked at beyond them. */
  point: z.string(),
  ok: z.boolean(),
  /** Not a failure, and somebody should look at it. */
  warning: z.boolean(),
  sentence: z.string(),
  /** Figures, ids, names of tables: what the sentence rests on. Never a number or a name of a person. */
  evidence: z.record(z.string(), z.unknown()),
  took_ms: z.number(),
});
export type ReadinessResult = z.infer<typeof ReadinessResult>;

export const ReadinessReport = z.object({
  /** Nothing failed, of the points and beyond them. */
  ok: z.boolean(),
  /** `business`: only what concerns the one that asks. */
  scope: z.enum(['installation', 'business']),
  checked_at: z.iso.datetime(),
  took_ms: z.number(),
  points: z.array(ReadinessResult),
  beyond: z.array(ReadinessResult),
});
export type ReadinessReport = z.infer<typeof ReadinessReport>;
