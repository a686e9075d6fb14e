import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** The way to a carrier, on which a request can be held up: it arrives when it is let go, though nobody waits any more. */
export interface HoldingRelay {
  url: string;
  /** The next request to make a call stays under way, its body with it. */
  holdNextCreate(): void;
  held(): number;
  /** Lets it arrive, and returns the first line of what the carrier says to it. */
  letArrive(): Promise<string>;
  close(): Promise<void>;
}

const CREATE = /^POST \/\S*\/Calls\.json /;

export async function startHoldingRelay(target: string): Promise<HoldingRelay> {
  const { hostname, port } = new URL(target);
  const sockets = new Set<Socket>();
  const held: (() => Promise<string>)[] = [];
  let hold = false;

  function open(): Socket {
    const upstream = connect({ host: hostname, port: Number(port) });
    keep(upstream);
    return upstream;
  }
  function keep(socket: Socket): void {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => sockets.delete(socket));
  }

  const server = createServer((client) => {
    keep(client);
    client.once('data', (head: Buffer) => {
      if (hold && CREATE.test(head.toString('latin1'))) {
        hold = false;
        const parts = [head];
        client.on('data', (part: Buffer) => parts.push(part));
        held.push(async () => {
          const upstream = open();
          upstream.write(Buffer.concat(parts));
          const [answer] = (await once(upstream, 'data')) as [Buffer];
          return answer.toString('latin1').split('\r\n')[0] ?? '';
        });
        return;
      }
      const upstream = open();
      upstream.write(head);
      client.pipe(upstream).pipe(client);
      client.once('close', () => upstream.destroy());
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    holdNextCreate: () => void (hold = true),
    held: () => held.length,
    async letArrive() {
      const next = held.shift();
      if (!next) throw new Error('no request is held');
      return await next();
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
