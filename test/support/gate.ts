import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** What becomes of a statement whose connection is cut; the answer never comes. */
export type Fate =
  /** It is carried out, and cut off when the server answers. */
  | 'done'
  /** It is on its way, and the server may still be at it. */
  | 'under way'
  /** It does not reach the server. */
  | 'never sent';

/** A door before the database that can be shut, and that can keep an answer back. */
export interface Gate {
  /** The same database, through the door. */
  url(url: string): string;
  /** Cuts what goes through; new connections are refused until it is opened. */
  shut(): Promise<void>;
  open(): Promise<void>;
  /**
   * Cuts the connection of the next statement with this text in it, behind so many others, and behind what is to be lost
   * before it. Returns how many were cut since.
   */
  loseNext(text: string, fate: Fate, behind?: number): () => number;
}

export async function startGate(database_url: string): Promise<Gate> {
  const { hostname, port } = new URL(database_url);
  const sockets = new Set<Socket>();
  const losing: { text: string; fate: Fate; behind: number }[] = [];
  let lost = 0;

  function pass(client: Socket): void {
    const server = connect({ host: hostname, port: Number(port), noDelay: true });
    let fate: Fate | undefined;
    for (const socket of [client, server]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.once('close', () => {
        sockets.delete(socket);
        client.destroy();
        server.destroy();
      });
    }
    client.on('data', (chunk: Buffer) => {
      fate ??= fateOf(chunk);
      if (fate === 'never sent') return void client.destroy();
      server.write(chunk, () => {
        if (fate === 'under way') client.destroy();
      });
    });
    server.on('data', (chunk) => {
      if (fate === 'done') client.destroy();
      else client.write(chunk);
    });
  }

  function fateOf(chunk: Buffer): Fate | undefined {
    const [next] = losing;
    if (!next || !chunk.includes(next.text) || next.behind-- > 0) return undefined;
    losing.shift();
    lost++;
    return next.fate;
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
    loseNext(text, fate, behind = 0) {
      losing.push({ text, fate, behind });
      const before = lost;
      return () => lost - before;
    },
  };
}
