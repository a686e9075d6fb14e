export { type Actor, localActor } from './actor.ts';
export { adopt, type AdoptOptions, type AdoptProgress } from './adopt/adopt.ts';
export { AdoptError, type AdoptErrorCode } from './adopt/errors.ts';
export { DROP_REASONS } from './adopt/judge.ts';
export type { AdoptReport } from './adopt/report.ts';
export * from './clock.ts';
export * from './limits.ts';
export {
  type Database,
  type DatabaseOptions,
  discoveryUrl,
  GuardError,
  guardErrors,
  openDatabase,
  ping,
  sqlState,
  transactionRetries,
  violatedConstraint,
} from './db/database.ts';
export { isConnectionLost, OutcomeUnknownError, type Patience, withPatience, withReceipts } from './db/patience.ts';
export { checkLogin, checkSchema, LoginError, type LoginErrorCode } from './db/check-login.ts';
export * from './db/migrate.ts';
export { createWaker, listenForWakes, lostWakes, type Waker } from './db/wake.ts';
export type { AttemptKey, Evidence, EvidenceItem, OpenAttempt, Recorded } from './call/attempt.ts';
export { OWN_ERROR } from './call/attempt.ts';
export { type AuditFilter, listAuditEvents } from './audit/read.ts';
export { recordSecurity, recordStrangers, type SecurityNote } from './audit/security.ts';
export { readAnswer } from './call/answer.ts';
export { cancelJob } from './call/cancel-job.ts';
export { type Claim, type ClaimedAttempt, type ClaimState, claim } from './call/claim.ts';
export { createGatherer, type Gatherer } from './call/gather.ts';
export { reconcileNow } from './call/reconcile.ts';
export { recordEvidence } from './call/record.ts';
export { resolveJob } from './call/resolve.ts';
export { CLOCK_SET_BACK_US } from './run/set-back.ts';
export {
  boundCallIds,
  type Due,
  type Errand,
  expireDialing,
  findDue,
  takeTurn,
} from './call/tend.ts';
export {
  reportForgottenCall,
  type TakenCall,
  takeUnwanted,
  type UnwantedCall,
  unwantedIsOver,
} from './call/unwanted.ts';
export {
  accountIsSettled,
  accountIsUnsettled,
  type AccountToSettle,
  accountsToSettle,
  type Settlement,
  takeSettleTurn,
} from './restore/accounts.ts';
export { acknowledgeRestore, restoreReport } from './restore/acknowledge.ts';
export { suspectRestore } from './restore/notice.ts';
export { reviewForgotten } from './restore/review.ts';
export type { Recollection } from './restore/state.ts';
export { type RestoreWatch, watchForRestore } from './restore/watch.ts';
export { countCalls } from './run/counts.ts';
export { createRun } from './run/create.ts';
export { type ExportOptions, exportRun } from './run/export.ts';
export { endOverdueRuns } from './run/end.ts';
export { fillAhead } from './run/fill.ts';
export { heartbeat, releaseLeases } from './run/heartbeat.ts';
export { type Lease, leaseRuns, leaveWorkers, restRuns } from './run/lease.ts';
export { pauseRun } from './run/pause.ts';
export { getJob, getRun, listJobs, listRuns, type Page } from './run/read.ts';
export { resumeRun } from './run/resume.ts';
export { stopRun } from './run/stop.ts';
export { sweepOnce } from './run/sweep.ts';
export { type Business, readBusiness } from './business/business.ts';
export {
  createCarrierAccount,
  listCarrierAccounts,
  moveCarrierAccount,
  readCredentials,
  resumeLane,
} from './business/carrier-accounts.ts';
export { createBusiness, type NewBusiness } from './business/create-business.ts';
export {
  type Authentication,
  authenticate,
  createKey,
  listKeys,
  type NewKey,
  type Principal,
  type RefusedKey,
  revokeKey,
} from './business/keys.ts';
export { listBusinesses } from './business/businesses.ts';
export { enterBusiness } from './business/enter-business.ts';
export { parseReportCursor, type ReportCursor, securityReport, sharedNumbers } from './business/security-report.ts';
export {
  authenticateSystem,
  createSystemKey,
  listSystemKeys,
  revokeSystemKey,
  SYSTEM_KEY_PREFIX,
  type SystemPrincipal,
} from './business/system-keys.ts';
export { createLead } from './lead/create-lead.ts';
export { updateLead } from './lead/edit.ts';
export { eraseLead } from './lead/erase.ts';
export { leadHistory } from './lead/history.ts';
export { getLead, type LeadQuery, searchLeads } from './lead/search.ts';
export { csvSafeLine } from './lead/csv-safe.ts';
export { MAPPED_FIELDS, type Mapping } from './lead/columns.ts';
export { ENCODINGS, type Encoding } from './lead/file/encoding.ts';
export { importLeads } from './lead/import.ts';
export { getImport, listImports } from './lead/import-state.ts';
export type { ImportOptions } from './lead/import-types.ts';
export { defaultImportLimits, type ImportLimits } from './lead/limits.ts';
export { createList, listLists, listListLeads, listNamed } from './lead/lists.ts';
export { LINE_REASONS } from './lead/reasons.ts';
export { rejectedLines } from './lead/rejected-lines.ts';
export {
  type AccountState,
  type BusinessLoad,
  findBusinesses,
  noteCallback,
  readAccountStates,
  readBusinessLoad,
} from './probe/accounts.ts';
export {
  type Canary,
  CANARY_LEADS,
  CANARY_LINES,
  createCanary,
  findCanaries,
  lookAtCanaryRun,
  plantStaleLease,
  removeCanary,
  startCanaryRun,
  stopCanaryRun,
} from './probe/canary.ts';
export { probeUniqueRunLead } from './probe/constraint.ts';
export { probeMigrations } from './probe/migrations.ts';
export { chooseLiveRuns, chooseRuns, type Recount, recountRun, type RunToCount } from './probe/recount.ts';
export {
  isWorkerAlive,
  probeClock,
  probeLoad,
  probeServer,
  probeWorkers,
  tellWorkerClock,
} from './probe/server.ts';
export { substituteWorker } from './probe/substitute.ts';
export { readVitals, type Vitals } from './probe/vitals.ts';
export { probeWalls } from './probe/walls.ts';
