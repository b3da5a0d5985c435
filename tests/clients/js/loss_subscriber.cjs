// Subscribes to loss/# at QoS 2 through connections that break; prints a line for each message, until loss/end.
//
// Arguments: port, version, name. Prints "ready" when it is subscribed.
'use strict'

const { mqtt, options } = require('./client.cjs')

const name = process.argv[4]
const client = mqtt.connect(options(name, { keep: 3600, reconnectPeriod: 10, resubscribe: false }))
client.on('error', error => console.error(error.message))
client.on('message', (topic, payload) => console.log(`${topic} ${payload}`))
client.once('connect', async () => {
  await client.subscribeAsync('loss/#', { qos: 2 })
  console.log('ready')
})
