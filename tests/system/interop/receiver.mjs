// A receiver of callbacks: verifies each POST, reads its CloudEvent, and prints it. Arguments: one or more secrets.
import { createServer } from "node:http";
import { HTTP } from "cloudevents";
import { Webhook } from "standardwebhooks";

const webhooks = process.argv.slice(2).map((secret) => new Webhook(secret));

const server = createServer(async (request, response) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  const body = Buffer.concat(parts).toString();
  try {
    for (const webhook of webhooks) webhook.verify(body, request.headers);
    console.log(JSON.stringify({ event: HTTP.toEvent({ headers: request.headers, body }) }));
    response.writeHead(204).end();
  } catch (error) {
    console.log(JSON.stringify({ refused: String(error) }));
    response.writeHead(401).end();
  }
});
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ url: `http://127.0.0.1:${server.address().port}/` })));
process.stdin.on("end", () => process.exit()).resume();
