import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** A door before the database that can be shut, and that can keep an answer back. */
export interface Gate {
  /** The same database, through the door. */
  url(url: string): string;
  /** Cuts what goes through; new connections are refused until it is opened. */
  shut(): Promise<void>;
  open(): Promise<void>;
  /** The next COMMIT is carried out, and its connection cut before the answer. Returns how many were. */
  loseNextCommit(): () => number;
}

export async function startGate(database_url: string): Promise<Gate> {
  const { hostname, port } = new URL(database_url);
  const sockets = new Set<Socket>();
  const state = { losing: false, lost: 0 };

  function pass(client: Socket): void {
    const server = connect({ host: hostname, port: Number(port), noDelay: true });
    let committing = false;
    for (const socket of [client, server]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.once('close', () => {
        sockets.delete(socket);
        client.destroy();
        server.destroy();
      });
    }
    client.on('data', (chunk) => {
      committing ||= state.losing && chunk.includes('COMMIT');
      server.write(chunk);
    });
    server.on('data', (chunk) => {
      if (!committing) return void client.write(chunk);
      Object.assign(state, { losing: false, lost: state.lost + 1 });
      client.destroy();
    });
  }

  let listening: Server;
  async function listen(at: number): Promise<number> {
    listening = createServer({ noDelay: true }, pass);
    listening.listen(at, '127.0.0.1');
    await once(listening, 'listening');
    return (listening.address() as AddressInfo).port;
  }
  const own = await listen(0);

  return {
    url(url) {
      const through = new URL(url);
      through.hostname = '127.0.0.1';
      through.port = String(own);
      return through.toString();
    },
    async shut() {
      const closed = once(listening, 'close');
      listening.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
    open: async () => void (await listen(own)),
    loseNextCommit() {
      state.losing = true;
      return () => state.lost;
    },
  };
}
