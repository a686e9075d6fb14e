import { request } from 'node:http';
import { until } from '../../../../test/support/wait.ts';

export interface StreamEvent {
  id: string;
  event: string;
  data: Record<string, unknown>;
}

export interface EventStream {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  events: StreamEvent[];
  comments: string[];
  ended: boolean;
  /** The next event that was not asked for yet. */
  next(): Promise<StreamEvent>;
  /** Resolves when the server has ended the stream. */
  end(): Promise<void>;
  /** Reads no more from here on. */
  stall(): void;
  close(): void;
}

/** Opens a run's event stream over a socket and reads it as an EventSource does. */
export async function follow(url: string, key: string, run_id: number, last_event_id?: string): Promise<EventStream> {
  const headers = { authorization: `Bearer ${key}`, ...(last_event_id ? { 'last-event-id': last_event_id } : {}) };
  const asked = request(`${url}/api/outbound/runs/${run_id}/events`, { headers, agent: false });
  return await new Promise((resolve, reject) => {
    asked.on('error', reject);
    asked.on('response', (response) => {
      let rest = '';
      let taken = 0;
      const stream: EventStream = {
        status: response.statusCode ?? 0,
        headers: response.headers,
        events: [],
        comments: [],
        ended: false,
        next: () => until(() => stream.events[taken] && stream.events[taken++], { deadline_ms: 10_000, what: 'event' }),
        end: async () => void (await until(() => stream.ended, { deadline_ms: 10_000, what: "the stream's end" })),
        stall: () => void response.pause(),
        close: () => void asked.destroy(),
      };
      response.setEncoding('utf8').on('data', (text: string) => {
        const blocks = (rest + text).split('\n\n');
        rest = blocks.pop() ?? '';
        for (const block of blocks) readBlock(block, stream);
      });
      response.on('error', () => {});
      response.on('close', () => (stream.ended = true));
      resolve(stream);
    });
    asked.end();
  });
}

function readBlock(block: string, stream: EventStream): void {
  const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(block)?.[1] ?? '';
  if (block.startsWith(':')) stream.comments.push(block);
  else if (field('data') !== '')
    stream.events.push({ id: field('id'), event: field('event'), data: JSON.parse(field('data')) });
}
