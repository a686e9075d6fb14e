import type { AddressInfo } from 'node:net';
import fastify from 'fastify';
import type { Behaviour, BehaviourInput } from './behaviour.ts';
import { createBehaviour } from './behaviour.ts';
import { createCalls } from './calls.ts';
import type { Clock } from './clock.ts';
import { systemClock } from './clock.ts';
import { controlApi } from './control.ts';
import { ApiError } from './errors.ts';
import { openLedger } from './ledger.ts';
import { limits } from './limits.ts';
import { restApi } from './rest-api.ts';
import type { CreateRequests } from './rest-api.ts';
import { createScheduler } from './scheduler.ts';
import type { LedgerEntry } from './types.ts';
import { createWebhooks } from './webhook.ts';

export interface CarrierSimOptions {
  /** 0: the operating system chooses one. */
  port: number;
  /** 127.0.0.1 by default: whoever reaches it may change its behaviour. */
  host?: string;
  /**
   * Append-only NDJSON. The calls in an existing file are taken up again: the finished ones are listed and counted,
   * the live ones go on. Without a file the ledger is gone with the process.
   */
  ledgerFile?: string;
  /** Decides every fate that is not set; 1 by default. */
  seed?: number;
  behaviour?: BehaviourInput;
  /** Times that are written down, in microseconds since 1970. How long things take is not affected. */
  now?: Clock;
}

export interface CarrierSim {
  /** `http://host:port`, without a slash at the end. */
  url: string;
  port: number;
  ledger(): readonly LedgerEntry[];
  /** Setting throws BehaviourError, and changes nothing, when the new one is not valid. */
  get behaviour(): Behaviour;
  set behaviour(input: BehaviourInput);
  /** Live calls stay live in the ledger file; a start on the same file goes on with them. */
  close(): Promise<void>;
}

/** Throws when the port is taken, when the ledger file can't be used, and BehaviourError. */
export async function startCarrierSim(options: CarrierSimOptions): Promise<CarrierSim> {
  const { port, host = '127.0.0.1', ledgerFile, seed = 1, now = systemClock } = options;
  const behaviour = createBehaviour(options.behaviour);
  const ledger = openLedger(ledgerFile, now);
  const scheduler = createScheduler();
  const webhooks = createWebhooks(scheduler);
  const calls = createCalls({ ledger, behaviour, scheduler, webhooks, now, seed });
  const requests: CreateRequests = { received: 0, accepted: 0, refused: 0, dropped: 0 };

  const app = fastify({
    bodyLimit: limits.request_body_bytes,
    forceCloseConnections: true,
    http: { connectionsCheckingInterval: limits.unfinished_request_check_ms },
    routerOptions: { ignoreDuplicateSlashes: false },
  });
  // The time-out is the server's own, because a client that stopped in the middle sends nothing that could wake us.
  const applyBodyTimeout = () => {
    app.server.requestTimeout = behaviour.current.body_timeout_ms;
    // Node takes the larger of the two for the whole request.
    app.server.headersTimeout = behaviour.current.body_timeout_ms;
  };
  applyBodyTimeout();
  behaviour.onChange(applyBodyTimeout);
  const deps = { behaviour, ledger, calls, scheduler, now, seed, requests };
  app.register(async (scope) => restApi(scope, deps));
  app.register(async (scope) => controlApi(scope, deps));
  app.setNotFoundHandler((request, reply) => {
    const error = new ApiError(20404, { message: `The requested resource ${request.url} was not found` });
    return reply.code(404).send(error.body());
  });

  async function close(): Promise<void> {
    scheduler.close();
    webhooks.close();
    await app.close();
    ledger.close();
  }

  try {
    await app.listen({ port, host });
  } catch (error) {
    await close();
    throw error;
  }
  for (const unfinished of ledger.takeUnfinished()) calls.resume(unfinished);
  const bound = (app.server.address() as AddressInfo).port;
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${bound}`,
    port: bound,
    ledger: () => ledger.entries,
    get behaviour(): Behaviour {
      return behaviour.current;
    },
    set behaviour(input: BehaviourInput) {
      behaviour.replace(input);
    },
    close,
  };
}
