// Publishes numbers at QoS 1 and 2 through connections that break; ends when the broker has taken over all of them.
//
// Arguments: port, version, name, count. Number n goes to loss/NAME/1 and loss/NAME/2.
'use strict'

const { mqtt, options } = require('./client.cjs')

const [name, count] = [process.argv[4], Number(process.argv[5])]
const client = mqtt.connect(options(name, { keep: 3600, reconnectPeriod: 10, resubscribe: false }))
client.on('error', error => console.error(error.message))

// "Packet identifier not found" is no error during recovery (section 3.7.2.1), though MQTT.js takes it for one: the broker
// has released the message before the connection broke.
const RELEASED = 0x92

async function publish (qos) {
  for (let number = 0; number < count; number++) {
    try {
      await client.publishAsync(`loss/${name}/${qos}`, String(number), { qos })
    } catch (error) {
      if (error.code !== RELEASED) throw error
    }
  }
}

client.once('connect', async () => {
  await Promise.all([publish(1), publish(2)])
  client.end(true, () => process.exit(0))
})
