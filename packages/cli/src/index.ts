export {
  connectEmbedded,
  type Embedded,
  type EmbeddedOptions,
  type EmbeddedStep,
  startEmbedded,
} from './embedded/embedded.ts';
export { EmbeddedError, type EmbeddedErrorCode } from './embedded/embedded-error.ts';
