import type { Equivalent, Mutant } from './mutant.ts';
import { breakerEquivalents, breakerMutants } from './mutants/breaker.ts';
import { claimEquivalents, claimMutants } from './mutants/claim.ts';
import { controlEquivalents, controlMutants } from './mutants/control.ts';
import { databaseEquivalents, databaseMutants } from './mutants/database.ts';
import { dialEquivalents, dialMutants } from './mutants/dial.ts';
import { lateEquivalents, lateMutants } from './mutants/late.ts';
import { leadEquivalents, leadMutants } from './mutants/leads.ts';
import { pickEquivalents, pickMutants } from './mutants/pick.ts';
import { reaperMutants } from './mutants/reaper.ts';
import { restoreEquivalents, restoreMutants } from './mutants/restore.ts';
import { noticeEquivalents, noticeMutants } from './mutants/restore-notice.ts';
import { leaseEquivalents, leaseMutants } from './mutants/lease.ts';
import { settleEquivalents, settleMutants } from './mutants/settle.ts';
import { tendEquivalents, tendMutants } from './mutants/tend.ts';

export interface Area {
  title: string;
  mutants: readonly Mutant[];
  equivalents: readonly Equivalent[];
}

export const AREAS: readonly Area[] = [
  { title: 'Leases', mutants: leaseMutants, equivalents: leaseEquivalents },
  { title: 'Runs from their creation to their end', mutants: controlMutants, equivalents: controlEquivalents },
  { title: 'Claiming', mutants: claimMutants, equivalents: claimEquivalents },
  { title: 'Pace and order of a claim', mutants: pickMutants, equivalents: pickEquivalents },
  { title: 'Dialling', mutants: dialMutants, equivalents: dialEquivalents },
  { title: 'Evidence and settling', mutants: settleMutants, equivalents: settleEquivalents },
  { title: 'Refusals and the lane’s breaker', mutants: breakerMutants, equivalents: breakerEquivalents },
  { title: 'Late evidence, decisions and callbacks', mutants: lateMutants, equivalents: lateEquivalents },
  { title: 'Looking for what nobody tends', mutants: tendMutants, equivalents: tendEquivalents },
  { title: 'Reconciling and hanging up', mutants: reaperMutants, equivalents: [] },
  { title: 'A restore that is noticed', mutants: noticeMutants, equivalents: noticeEquivalents },
  { title: 'From a restore back to work', mutants: restoreMutants, equivalents: restoreEquivalents },
  { title: 'Leads, lists and accounts', mutants: leadMutants, equivalents: leadEquivalents },
  { title: 'Transactions and migrations', mutants: databaseMutants, equivalents: databaseEquivalents },
];

export const MUTANTS: readonly Mutant[] = AREAS.flatMap(({ mutants }) => mutants);
