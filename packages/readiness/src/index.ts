export { checkBusiness, checkReadiness } from './check.ts';
export { DEFAULT_TIMEOUT_MS, type ReadinessOptions } from './options.ts';
export { shareChecks } from './share.ts';
