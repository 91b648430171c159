// Open a picture file: its kind and size are read before anything is decoded, as on page 14.

const MOST = 64e6, LEAST = 16, BYTES = 300e6
const KINDS = 'JPEG, PNG, WebP, GIF or BMP'

function jpegFrame(b) { // width, height, bits and channels, from the first frame header
  for (let i=2; i+9<b.length;) {
    if (b[i]!==255) { i++; continue }
    const m = b[i+1]
    if (m===255) { i++; continue }
    if (m>=0xc0 && m<=0xcf && ![0xc4,0xc8,0xcc].includes(m))
      return {h:b[i+5]<<8|b[i+6], w:b[i+7]<<8|b[i+8], bits:b[i+4], channels:b[i+9]}
    if (m===0xda || m===0xd9) return null
    i += m>=0xd0 && m<=0xd8 || m===1 ? 2 : 2+(b[i+2]<<8|b[i+3])
  }
  return null
}

function* chunks(v, png) { // those of a PNG, else of a WebP: name, first byte, length
  for (let i=png ? 8 : 12; i+8<=v.byteLength;) {
    const [at, size] = png ? [i+4, i] : [i, i+4], n = v.getUint32(size, !png)
    yield {name:String.fromCharCode(...[0,1,2,3].map(k => v.getUint8(at+k))), at:i+8, n}
    i += png ? n+12 : n+n%2+8
  }
}

function pngFrame(v) { // an animation tells how many pictures it has
  const res = {w:v.getUint32(16), h:v.getUint32(20), whole:false, pictures:1, turned:false}
  for (const o of chunks(v, true)) {
    if (o.name==='eXIf') res.turned = turned(v, o.at)
    if (o.name==='acTL') res.pictures = v.getUint32(o.at)
    if (o.name==='IEND') res.whole = true
  }
  return res
}

function webpFrame(b, v) {
  const kind = String.fromCharCode(...b.subarray(12, 16)), more = {pictures:0, turned:false}
  for (const o of chunks(v, false)) {
    if (o.name==='ANMF') more.pictures++
    if (o.name==='EXIF') more.turned = turned(v, o.at)
  }
  if (kind==='VP8X') return {w:1+(v.getUint32(24, true)&0xffffff), h:1+(v.getUint32(27, true)&0xffffff), ...more}
  if (kind==='VP8L') { const n = v.getUint32(21, true); return {w:1+(n&0x3fff), h:1+(n>>>14&0x3fff)} }
  return {w:v.getUint16(26, true)&0x3fff, h:v.getUint16(28, true)&0x3fff}
}

function turned(v, at) { // does the EXIF note there ask to turn or mirror the picture?
  if (v.getUint32(at)===0x45786966) at += 6
  const little = v.getUint16(at)===0x4949, top = at+v.getUint32(at+4, little)
  for (let i=top+2, n=v.getUint16(top, little); n>0; i+=12, n--)
    if (v.getUint16(i, little)===0x112) return v.getUint16(i+8, little)>1 && v.getUint16(i+8, little)<9
  return false
}

function gifPictures(b) { // from block to block, as far as the second one
  const table = o => o&128 ? 6<<(o&7) : 0
  let n = 0
  for (let i=13+table(b[10]); n<2 && (b[i]===0x21 || b[i]===0x2c);) {
    if (b[i]===0x2c) n++
    i += b[i]===0x2c ? 11+table(b[i+9]) : 2
    while (b[i]) i += b[i]+1
    i++
  }
  return n
}

function bmpFrame(v) { // the short header is OS/2's
  if (v.getUint32(14, true)===12) return {w:v.getUint16(18, true), h:v.getUint16(20, true)}
  return {w:Math.abs(v.getInt32(18, true)), h:Math.abs(v.getInt32(22, true))}
}

function ends(b) { // does a JPEG's end stand anywhere, the last place first?
  for (let i=b.length-2; i>=0; i--) if (b[i]===255 && b[i+1]===0xd9) return true
  return false
}

export function header(b) { // kind, width and height, or why the file is refused
  const v = new DataView(b.buffer, b.byteOffset, b.byteLength), starts = (...o) => o.every((x, i) => b[i]===x)
  const none = {why:`is not a picture that this page reads: save it as ${KINDS}`}
  try {
    if (!b.length) return {why:'is empty (0 bytes): fetch or copy it again'}
    if (starts(0x89,0x50,0x4e,0x47,13,10,26,10)) {
      if (b[24]>8) return {why:'has more than 8 bits a channel: convert it to 8 bits yourself, so that the intensity window is your choice'}
      const f = pngFrame(v)
      return f.whole ? {kind:'PNG', ...f} : {why:'breaks off: fetch or copy it again'}
    }
    if (starts(255,0xd8,255)) {
      const f = jpegFrame(b)
      if (!f) return {why:'is a damaged JPEG: fetch or copy it again'}
      if (f.channels===4) return {why:'is CMYK, made for print: convert it to RGB, with the color profile it was made with'}
      if (f.bits>8) return {why:'has more than 8 bits a channel: convert it to 8 bits yourself'}
      if (!ends(b)) return {why:'breaks off: fetch or copy it again'}
      return {kind:'JPEG', ...f}
    }
    if (starts(0x52,0x49,0x46,0x46) && b[8]===0x57 && b[9]===0x45) return {kind:'WebP', ...webpFrame(b, v)}
    if (starts(0x47,0x49,0x46,0x38)) return {kind:'GIF', w:v.getUint16(6, true), h:v.getUint16(8, true), pictures:gifPictures(b)}
    if (starts(0x42,0x4d)) return {kind:'BMP', ...bmpFrame(v)}
    if (starts(0x49,0x49,42,0) || starts(0x4d,0x4d,0,42)) return {why:`is a TIFF, which browsers do not read: save it as PNG`}
    if (b[128]===0x44 && b[129]===0x49 && b[130]===0x43 && b[131]===0x4d) return {why:'is a DICOM file, which browsers do not read: ask fundus predict, or save its picture as PNG'}
    return none
  } catch { return none }
}

function noisy() { // against fingerprinting some browsers answer with noise where a canvas is read; a bit here and there is let pass
  const c = new OffscreenCanvas(16, 16).getContext('2d', {willReadFrequently:true}), p = c.createImageData(16, 16)
  for (let i=0; i<p.data.length; i++) p.data[i] = i%4===3 ? 255 : i%251
  c.putImageData(p, 0, 0)
  return c.getImageData(0, 0, 16, 16).data.reduce((s, o, i) => s+Math.abs(o-p.data[i]), 0)>p.data.length
}

export async function openPicture(blob) { // {w, h, d}, upright and on black; throws the reason, without the file's name
  if (blob.size>BYTES) throw `has ${Math.round(blob.size/1e6)} MB: make it smaller`
  const raw = await blob.arrayBuffer().catch(() => { throw 'cannot be read: if it is a folder, choose a picture in it; if it was moved, choose it again' })
  const f = header(new Uint8Array(raw))
  if (f.why) throw f.why
  if (f.w*f.h>MOST) throw `would unpack to ${Math.ceil(f.w*f.h/1e6)} megapixels, and at most 64 are read: make it smaller`
  if (Math.min(f.w, f.h)<LEAST) throw `is ${f.w}x${f.h} pixels, and a side under ${LEAST} shows no eye`
  if (f.pictures>1) throw 'is animated, and only its first picture would be seen: save each as a file'
  if (noisy()) throw 'cannot be read: against fingerprinting this browser gives programs noise in place of pictures. Use another browser, or turn that off here'
  if (f.turned) throw `is to be turned by a note in it, which not every browser follows in a ${f.kind}: save it upright`
  let bitmap
  try {
    bitmap = await createImageBitmap(blob, {colorSpaceConversion:'none', premultiplyAlpha:'none',
                                            imageOrientation:'from-image'})
  } catch { throw `is damaged and cannot be opened, or no ${f.kind}: fetch or copy it again` }
  try { return pixels(bitmap) }
  finally { bitmap.close() }
}

function pixels(bitmap) { // in strips, so that no canvas is as large as the picture
  const {width:w, height:h} = bitmap, strip = Math.min(h, Math.max(1, Math.floor(4e6/w))), d = new Uint8Array(w*h*3)
  const c = new OffscreenCanvas(w, strip).getContext('2d', {willReadFrequently:true})
  let seen = 0
  for (let y=0; y<h; y+=strip) {
    c.clearRect(0, 0, w, strip)
    c.drawImage(bitmap, 0, -y)
    const n = Math.min(strip, h-y), p = c.getImageData(0, 0, w, n).data
    for (let i=0, k=y*w*3; i<p.length; i+=4) {
      const a = p[i+3]
      seen += a
      for (let j=0; j<3; j++) d[k++] = a===255 ? p[i+j] : Math.round(p[i+j]*a/255)
    }
  }
  if (seen<.01*255*w*h) throw 'is transparent, nothing of it can be seen: save it without transparency'
  return {w, h, d}
}
