export { startCarrierSim } from './start.ts';
export type { CarrierSim, CarrierSimOptions } from './start.ts';
export { BehaviourError } from './behaviour.ts';
export type { Behaviour, BehaviourInput } from './behaviour.ts';
export type { CallStatus, LedgerEntry, Outcome, ResponseFate } from './types.ts';
export type { Totals } from './totals.ts';
