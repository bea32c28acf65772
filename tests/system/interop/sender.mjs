// A sender of webhooks: prints the headers of a POST. Arguments: secret, id, seconds since the epoch, body.
import { Webhook } from "standardwebhooks";

const [secret, id, seconds, body] = process.argv.slice(2);
console.log(
  JSON.stringify({
    "webhook-id": id,
    "webhook-timestamp": seconds,
    "webhook-signature": new Webhook(secret).sign(id, new Date(Number(seconds) * 1000), body),
  }),
);
