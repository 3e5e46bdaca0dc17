/** One stream from a program: the key, then requests, each answered before the next is sent. */
import type { Socket } from "node:net";
import {
  decodeRequest,
  encodeReply,
  KEY_BYTES,
  payloadLength,
  REQUEST_BYTES,
  type Reply,
  type Request,
} from "./protocol.js";

export interface ConnectionHandler {
  request(connection: Connection, request: Request): Promise<Reply>;
  /** The last reference to the other end is gone. */
  ended(connection: Connection): void;
}

/** A request is a transfer of at most 64 KiB, or a path. */
const LONGEST = 1 << 17;

export class Connection {
  #buffer: Buffer = Buffer.alloc(0);
  #trusted = false;
  #ended = false;

  constructor(
    private readonly socket: Socket,
    private readonly key: Buffer,
    private readonly handler: ConnectionHandler,
  ) {
    socket.on("data", (chunk) => this.#received(chunk));
    for (const event of ["end", "close", "error"]) socket.on(event, () => this.#end());
  }

  close(): void {
    this.socket.destroy();
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.socket.destroy();
    this.handler.ended(this);
  }

  #received(chunk: Buffer): void {
    this.#buffer = this.#buffer.length === 0 ? chunk : Buffer.concat([this.#buffer, chunk]);
    if (!this.#trusted) this.#checkKey();
    while (this.#trusted && this.#buffer.length >= REQUEST_BYTES) {
      const length = REQUEST_BYTES + payloadLength(this.#buffer, 0);
      if (length > LONGEST) this.#end();
      if (length > LONGEST || this.#buffer.length < length) return;
      const request = decodeRequest(this.#buffer, 0);
      this.#buffer = this.#buffer.subarray(length);
      void this.#answer(request);
    }
  }

  #checkKey(): void {
    if (this.#buffer.length < KEY_BYTES) return;
    if (!this.#buffer.subarray(0, KEY_BYTES).equals(this.key)) this.#end();
    else this.#trusted = true;
    this.#buffer = this.#buffer.subarray(KEY_BYTES);
  }

  async #answer(request: Request): Promise<void> {
    const reply = await this.handler.request(this, request);
    if (!this.#ended) this.socket.write(encodeReply(reply));
  }
}
