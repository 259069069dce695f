// A webtorrent downloader that finds peers only through trackers. usage: node webtorrent.mjs MODULES TORRENT|MAGNET FOLDER
//
// uTP is disabled: webtorrent tries it four times over 21 s, refused or not, before it connects over TCP. Prints each
// connection ("wire ADDRESS") and its end. Runs until it is killed.

const [modules, link, folder] = process.argv.slice(2)
const { default: WebTorrent } = await import(`${modules}/webtorrent/index.js`)

const client = new WebTorrent({ utp: false, dht: false, lsd: false, natUpnp: false, natPmp: false })
client.on('error', error => console.log(`error ${error.message}`))
const torrent = client.add(link, { path: folder })
torrent.on('warning', warning => console.log(`warning ${warning.message ?? warning}`))
torrent.on('metadata', () => console.log('metadata'))
torrent.on('done', () => console.log('complete'))
torrent.on('wire', (wire, address) => {
  console.log(`wire ${address}`)
  wire.on('close', () => console.log(`closed ${address}`))
})
