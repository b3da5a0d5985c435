// Publishes numbers at QoS 1 and 2 through connections that break; ends when the broker has taken over all of them.
//
// Arguments: port, version, name, count. Number n goes to loss/NAME/1 and loss/NAME/2.
'use strict'

const { mqtt, options } = require('./client.cjs')

const [name, count] = [process.argv[4], Number(process.argv[5])]
const client = mqtt.connect(options(name, { keep: 3600, reconnectPeriod: 10, resubscribe: false }))
client.on('error', error => console.error(error.message))

async function publish (qos) {
  for (let number = 0; number < count; number++) {
    await client.publishAsync(`loss/${name}/${qos}`, String(number), { qos })
  }
}

client.once('connect', async () => {
  await Promise.all([publish(1), publish(2)])
  client.end(true, () => process.exit(0))
})
