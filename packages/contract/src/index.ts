export * from './ids.ts';
export * from './states.ts';
export * from './errors.ts';
export * from './api.ts';
export * from './administration.ts';
export * from './carrier-port.ts';
export * from './callback-urls.ts';
export * from './trail.ts';
