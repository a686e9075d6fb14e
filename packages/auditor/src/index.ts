export { audit, type AuditOptions } from './audit.ts';
export type { CarrierAccess } from './carrier-check.ts';
export {
  type AuditLimits,
  type AuditReport,
  type Checked,
  type Incomplete,
  type Invariant,
  INVARIANTS,
  type Violation,
  VIOLATIONS_LISTED,
} from './types.ts';
