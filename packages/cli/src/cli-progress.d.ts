/** What is used here of cli-progress, which brings no types. */
declare module 'cli-progress' {
  interface Options {
    stream?: NodeJS.WritableStream;
    fps?: number;
    hideCursor?: boolean;
    clearOnComplete?: boolean;
    barsize?: number;
    barCompleteChar?: string;
    barIncompleteChar?: string;
    format?: (options: DerivedOptions, params: { progress: number; maxWidth: number }) => string;
  }
  interface DerivedOptions {
    barsize: number;
    barCompleteString: string;
    barIncompleteString: string;
    barGlue: string;
  }
  class MultiBar {
    constructor(options: Options);
    create(total: number, startValue: number, payload?: object, options?: Options): Bar;
    /** Shown above the bars at the next drawing; ends with a line break. */
    log(text: string): void;
    update(): void;
    stop(): void;
  }
  interface Bar {
    update(value: number): void;
    setTotal(total: number): void;
  }
  const cliProgress: {
    MultiBar: typeof MultiBar;
    Format: { BarFormat(progress: number, options: DerivedOptions): string };
  };
  export default cliProgress;
}
