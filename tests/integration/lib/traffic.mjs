// Clients that ask all the time, so that a fault meets requests in flight.
import http from 'node:http';
import { request } from './http.mjs';
import { bearer } from './token.mjs';
import { pause, until } from './wait.mjs';

export class Traffic {
  #stopped = false;

  // `keepAlive` of the clients keep a connection of their own, as a proxy does; the others open a
  // new one for every request.
  constructor(port, { clients, keepAlive = clients, pauseMs = 0 }) {
    this.port = port;
    this.answered = 0;
    this.statuses = {};
    this.failures = [];
    this.running = Promise.all(Array.from({ length: clients }, (_, i) =>
      this.#client(i, i < keepAlive, pauseMs)));
  }

  async #client(number, keepAlive, pauseMs) {
    const agent = keepAlive ? new http.Agent({ keepAlive: true, maxSockets: 1 }) : false;
    const headers = bearer();
    for (let i = 0; !this.#stopped; i++) {
      const message = `client ${number}, request ${i}`;
      try {
        const answer = await request(this.port, '/api/chat/echo', {
          body: { message }, headers, agent,
        });
        this.statuses[answer.status] = (this.statuses[answer.status] ?? 0) + 1;
        if (answer.status === 200 && answer.json.message === message) this.answered++;
        else this.failures.push({ status: answer.status, text: answer.text });
      } catch (error) {
        this.failures.push({ status: 0, text: `${error.code ?? ''} ${error.message}` });
      }
      if (pauseMs) await pause(pauseMs);
    }
    if (agent) agent.destroy();
  }

  // Waits for so many more good answers.
  async more(count) {
    const wanted = this.answered + count;
    await until(`${count} more good answers`, () => this.answered >= wanted);
  }

  async stop() {
    this.#stopped = true;
    await this.running;
  }
}
