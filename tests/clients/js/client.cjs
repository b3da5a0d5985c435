// MQTT.js with waits: what a scenario needs to say what it expects, and to end with a clear message if it is not so.
//
// A scenario is a script with two arguments, the port of the broker and the version of MQTT (3 is 3.1, 4 is 3.1.1, 5 is
// 5.0). It ends with exit status 0 if everything was as expected.
'use strict'

const assert = require('node:assert/strict')
const mqtt = require('mqtt')

// Milliseconds that anything may take that has to happen.
const DEADLINE = 120_000

const port = Number(process.argv[2])
const version = Number(process.argv[3])

// Options of a connection to the broker; `keep` is for how many seconds the session outlives it, if it does.
function options (clientId, { keep, ...more } = {}) {
  const made = {
    host: '127.0.0.1',
    port,
    clientId,
    protocolId: version === 3 ? 'MQIsdp' : 'MQTT',
    protocolVersion: version,
    clean: keep === undefined,
    keepalive: 600,
    connectTimeout: DEADLINE,
    reconnectPeriod: 0,
    ...more
  }
  if (version === 5 && keep !== undefined) {
    made.properties = { sessionExpiryInterval: keep, ...made.properties }
  }
  return made
}

// A connected client. Whatever happens to it becomes an event, and is waited for by name.
class Client {
  static async connect (clientId, more) {
    const client = new Client(mqtt.connect(options(clientId, more)))
    client.connack = await client.wait('connect')
    return client
  }

  constructor (inner) {
    this.mqtt = inner
    this.events = []
    this.waiters = []
    inner.on('connect', packet => this.put('connect', packet))
    inner.on('message', (topic, payload, packet) => this.put('message', packet))
    inner.on('disconnect', packet => this.put('disconnect', packet))
    inner.on('close', () => this.put('close'))
    inner.on('error', error => this.put('error', error))
  }

  put (kind, value) {
    const index = this.waiters.findIndex(waiter => waiter.kind === kind)
    if (index >= 0) this.waiters.splice(index, 1)[0].resolve(value)
    else this.events.push({ kind, value })
  }

  // Waits for the next event of a kind; the others are kept.
  wait (kind) {
    const index = this.events.findIndex(event => event.kind === kind)
    if (index >= 0) return Promise.resolve(this.events.splice(index, 1)[0].value)
    return new Promise((resolve, reject) => {
      const seen = () => JSON.stringify(this.events)
      const timer = setTimeout(() => reject(new Error(`waited for ${kind} in vain; there was ${seen()}`)), DEADLINE)
      this.waiters.push({ kind, resolve: value => { clearTimeout(timer); resolve(value) } })
    })
  }

  // Subscribes; resolves to the QoS that was granted.
  async subscribe (topic, qos = 0, more = {}) {
    const [granted] = await this.mqtt.subscribeAsync(topic, { qos, ...more })
    return granted.qos
  }

  // Publishes; resolves when it is acknowledged.
  publish (topic, payload = '', qos = 0, more = {}) {
    return this.mqtt.publishAsync(topic, payload, { qos, ...more })
  }

  message () {
    return this.wait('message')
  }

  async text () {
    return (await this.message()).payload.toString()
  }

  // Says goodbye.
  disconnect (more = {}) {
    return this.mqtt.endAsync(false, more)
  }

  // Closes the connection without a word.
  async cut () {
    this.mqtt.stream.destroy()
    await this.wait('close')
  }
}

// Runs scenarios one after the other.
async function run (...scenarios) {
  for (const scenario of scenarios) {
    try {
      await scenario()
    } catch (error) {
      console.error(`FAILED: ${scenario.name}: ${error.stack}`)
      process.exit(1)
    }
  }
  process.exit(0)
}

module.exports = { assert, Client, options, mqtt, run, version }
