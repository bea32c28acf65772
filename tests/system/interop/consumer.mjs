// A consumer of the results exchange: reads each message as a CloudEvent and prints it. Arguments: URL, exchange.
import { connect } from "amqplib";
import { HTTP } from "cloudevents";

// The SDK has no binding for RabbitMQ. The HTTP binding differs only in the names of the headers.
function read({ properties, content }) {
  const headers = { "content-type": properties.contentType };
  for (const [name, value] of Object.entries(properties.headers)) {
    if (name.startsWith("cloudEvents_")) headers[name.replace("cloudEvents_", "ce-")] = value;
  }
  return HTTP.toEvent({ headers, body: content.toString() });
}

const [url, exchange] = process.argv.slice(2);
const channel = await (await connect(url)).createChannel();
const { queue } = await channel.assertQueue("", { exclusive: true });
await channel.bindQueue(queue, exchange, "#");
await channel.consume(
  queue,
  (message) => {
    const { fields, properties } = message;
    console.log(JSON.stringify({ event: read(message), key: fields.routingKey, properties }));
  },
  { noAck: true },
);
console.log(JSON.stringify({ queue }));
process.stdin.on("end", () => process.exit()).resume();
