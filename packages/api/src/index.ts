export { type MetricsServer, startMetricsServer } from './metrics-server.ts';
export { type ApiLimits, defaultApiLimits } from './limits.ts';
export { type Api, type ApiOptions, buildApi, startApi } from './server.ts';
