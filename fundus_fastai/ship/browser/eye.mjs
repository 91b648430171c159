// Find the eye, cut it out, and bring it into the form that the net was taught: a port of pages 15 and 80.
// A picture is {w, h, d}: d holds red, green, blue of each pixel, bytes. Ends and rounding are Python's and OpenCV's.

const f = Math.fround
export const even = x => { const r = Math.round(x); return r-x===.5 && r%2 ? r-1 : r } // .5 goes to the even number
const byte = x => x<=0 ? 0 : x>=255 ? 255 : even(x)

// --- size

export function halve({w, h, d}) { // mean of each 2x2 pixels
  const W = w>>1, H = h>>1, o = new Uint8Array(W*H*3)
  for (let y=0, k=0; y<H; y++) for (let x=0; x<W; x++) {
    const i = (2*y*w+2*x)*3, j = i+w*3
    for (let c=0; c<3; c++) o[k++] = (d[i+c]+d[i+3+c]+d[j+c]+d[j+3+c]+2)>>2
  }
  return {w:W, h:H, d:o}
}

function areaTable(from, to) { // where each new pixel takes its light from: [new, old, share]
  const scale = from/to, t = []
  for (let i=0; i<to; i++) {
    const a = i*scale, b = a+scale, cell = Math.min(scale, from-a)
    const last = Math.min(Math.floor(b), from-1), first = Math.min(Math.ceil(a), last)
    if (first-a>1e-3) t.push([i, first-1, f((first-a)/cell)])
    for (let s=first; s<last; s++) t.push([i, s, f(1/cell)])
    if (b-last>1e-3) t.push([i, last, f(Math.min(Math.min(b-last, 1), cell)/cell)])
  }
  return t
}

function area({w, h, d}, W, H) { // mean of the area that a new pixel covers
  const xs = areaTable(w, W), ys = areaTable(h, H), o = new Uint8Array(W*H*3)
  const row = new Float32Array(W*3), sum = new Float32Array(W*3)
  let at = -1
  const put = () => { for (let i=0; i<W*3; i++) o[at*W*3+i] = byte(sum[i]) }
  for (const [y, s, share] of ys) {
    row.fill(0)
    for (const [x, from, a] of xs) {
      const i = (s*w+from)*3
      for (let c=0; c<3; c++) row[x*3+c] += f(d[i+c]*a)
    }
    if (y!==at) { if (at>=0) put(); sum.fill(0); at = y }
    for (let i=0; i<W*3; i++) sum[i] += f(share*row[i])
  }
  put()
  return {w:W, h:H, d:o}
}

function linearTable(from, to) { // the two neighbors of each new pixel and the share of the second
  const t = [], inside = s => Math.min(Math.max(s, 0), from-1)
  for (let i=0; i<to; i++) {
    const p = f((i+.5)*(from/to)-.5), s = Math.floor(p)
    t.push([inside(s), inside(s+1), f(p-s)])
  }
  return t
}

function linear({w, h, d}, W, H) { // between the four nearest pixels, in OpenCV's whole numbers
  const ys = linearTable(h, H), o = new Uint8Array(W*H*3)
  const xs = linearTable(w, W).map(([a, b, q]) => [a, b, a===b ? 0 : q]) // as OpenCV does, across alone
  const short = q => [even(f(f(1-q)*2048)), even(f(q*2048))]
  const rows = new Map()
  const across = y => {
    if (rows.has(y)) return rows.get(y)
    const r = new Int32Array(W*3)
    xs.forEach(([a, b, q], x) => {
      const [u, v] = short(q)
      for (let c=0; c<3; c++) r[x*3+c] = d[(y*w+a)*3+c]*u+d[(y*w+b)*3+c]*v
    })
    if (rows.size>3) rows.delete(rows.keys().next().value)
    rows.set(y, r)
    return r
  }
  ys.forEach(([a, b, q], y) => {
    const A = across(a), B = across(b), [u, v] = short(q)
    for (let i=0; i<W*3; i++) o[y*W*3+i] = (((u*(A[i]>>4))>>16)+((v*(B[i]>>4))>>16)+2)>>2
  })
  return {w:W, h:H, d:o}
}

export function resize(im, size) { // area-averaged where it shrinks
  while (Math.min(im.w, im.h)>=2*size) im = halve(im)
  if (im.w===size && im.h===size) return im
  return im.w>=size && im.h>=size ? area(im, size, size) : linear(im, size, size)
}

function pillowTable(from, to) {
  const scale = from/to, reach = Math.max(scale, 1), t = []
  for (let i=0; i<to; i++) {
    const mid = (i+.5)*scale
    const a = Math.max(Math.trunc(mid-reach+.5), 0), b = Math.min(Math.trunc(mid+reach+.5), from), k = []
    for (let x=a; x<b; x++) k.push(Math.max(0, 1-Math.abs((x-mid+.5)/reach)))
    const all = k.reduce((p, q) => p+q, 0)
    t.push([a, k.map(o => Math.trunc(.5+o/all*4194304))])
  }
  return t
}

export function pillow(im, W, H) { // Pillow's BILINEAR: a triangle as wide as the reduction asks for, across and then down
  const sharp = s => Math.max(0, Math.min(255, Math.floor((s+2097152)/4194304)))
  if (im.w!==W) {
    const {w, h, d} = im, t = pillowTable(w, W), o = new Uint8Array(W*h*3)
    for (let y=0; y<h; y++) for (let x=0; x<W; x++) for (let c=0; c<3; c++) {
      const [a, k] = t[x]
      let s = 0
      for (let i=0; i<k.length; i++) s += d[(y*w+a+i)*3+c]*k[i]
      o[(y*W+x)*3+c] = sharp(s)
    }
    im = {w:W, h, d:o}
  }
  if (im.h!==H) {
    const {w, h, d} = im, t = pillowTable(h, H), o = new Uint8Array(w*H*3)
    for (let y=0; y<H; y++) for (let i=0; i<w*3; i++) {
      const [a, k] = t[y]
      let s = 0
      for (let j=0; j<k.length; j++) s += d[(a+j)*w*3+i]*k[j]
      o[y*w*3+i] = sharp(s)
    }
    im = {w, h:H, d:o}
  }
  return im
}

export function luma({w, h, d}) { // Pillow's gray, in all three channels
  const o = new Uint8Array(d.length)
  for (let i=0; i<d.length; i+=3) o[i] = o[i+1] = o[i+2] = (d[i]*19595+d[i+1]*38470+d[i+2]*7471+32768)>>16
  return {w, h, d:o}
}

// --- where the eye is

function* corners({w, h, d}, c=1) { // of c channels
  const n = Math.max(2, Math.floor(Math.max(w, h)/24))
  for (const top of [true, false]) for (const left of [true, false]) {
    const v = []
    for (let y=top?0:Math.max(0, h-n); y<(top?Math.min(n, h):h); y++)
      for (let x=c*(left?0:Math.max(0, w-n)); x<c*(left?Math.min(n, w):w); x++) v.push(d[y*w*c+x])
    yield v
  }
}

function median3({w, h, d}) { // of 3x3 pixels, the border repeated
  const o = new Uint8Array(w*h), v = new Uint8Array(9)
  for (let y=0; y<h; y++) for (let x=0; x<w; x++) {
    let n = 0
    for (let j=-1; j<2; j++) for (let i=-1; i<2; i++)
      v[n++] = d[Math.min(h-1, Math.max(0, y+j))*w+Math.min(w-1, Math.max(0, x+i))]
    v.sort()
    o[y*w+x] = v[4]
  }
  return {w, h, d:o}
}

function glow({w, h, d}) { // the brightest channel, without odd pixels and without a white surround
  const hi = new Uint8Array(w*h), lo = new Uint8Array(w*h)
  for (let i=0, k=0; i<w*h; i++, k+=3) {
    hi[i] = Math.max(d[k], d[k+1], d[k+2])
    lo[i] = Math.min(d[k], d[k+1], d[k+2])
  }
  const g = {w, h, d:hi}
  if ([...corners(g)].every(c => Math.min(...c)>245)) lo.forEach((v, i) => { if (v>245) hi[i] = 0 })
  return median3(g)
}

const mean = v => v.reduce((a, b) => a+b, 0)/v.length
function deviation(v) { const m = mean(v); return Math.sqrt(mean(v.map(o => (o-m)**2))) }
function middle(v) { const s = [...v].sort((a, b) => a-b), n = s.length; return (s[(n-1)>>1]+s[n>>1])/2 }

function ground(g) { // gray and noise of the surround, and how far the field rises above it
  let c
  for (const o of corners(g)) if (!c || mean(o)<mean(c)) c = o
  const lo = Math.min(middle(c), 40), some = []
  for (let y=0; y<g.h; y+=3) for (let x=0; x<g.w; x+=3) some.push(g.d[y*g.w+x])
  some.sort((a, b) => a-b)
  return [lo, Math.min(12, 2.5*deviation(c)), some[Math.floor(.95*(some.length-1))]-lo]
}

function ends(w, h, lit) { // rows that hold anything, with their first and their last pixel
  const res = []
  for (let y=0; y<h; y++) {
    let a = -1, b = -1
    for (let x=0; x<w; x++) if (lit(x, y)) { if (a<0) a = x; b = x }
    if (a>=0) res.push([y, a, b])
  }
  return res
}

function edge({w, h, d}) { // at most 160 points of the edge, in units of half the longer side from the middle
  const rows = ends(w, h, (x, y) => d[y*w+x]), cols = ends(h, w, (y, x) => d[y*w+x])
  const all = [...rows.map(([y, a]) => [a, y]), ...rows.map(([y,, b]) => [b, y]),
               ...cols.map(([x, a]) => [x, a]), ...cols.map(([x,, b]) => [x, b])]
  const keep = all.filter(([x, y]) => x>1 && x<w-2 && y>1 && y<h-2), s = Math.max(w, h)/2
  const step = Math.max(1, Math.ceil(keep.length/160))
  return keep.filter((_, i) => i%step===0).map(([x, y]) => [x/s-1, y/s-1])
}

function solve(A, b) { // by elimination, the largest pivot first; A and b are overwritten
  const n = b.length
  for (let i=0; i<n; i++) {
    let p = i
    for (let j=i+1; j<n; j++) if (Math.abs(A[j][i])>Math.abs(A[p][i])) p = j
    ;[A[i], A[p]] = [A[p], A[i]]
    ;[b[i], b[p]] = [b[p], b[i]]
    for (let j=i+1; j<n; j++) {
      const q = A[j][i]/A[i][i]
      for (let k=i; k<n; k++) A[j][k] -= q*A[i][k]
      b[j] -= q*b[i]
    }
  }
  for (let i=n-1; i>=0; i--) {
    for (let k=i+1; k<n; k++) b[i] -= A[i][k]*b[k]
    b[i] /= A[i][i]
  }
  return b
}

function conic(points, oval) { // the least-squares circle (or oval): x, y, radius, height over width
  const n = oval ? 4 : 3, A = Array.from({length:n}, () => new Array(n).fill(0)), b = new Array(n).fill(0)
  for (const [x, y] of points) {
    const r = [x, y, 1, -y*y], z = oval ? x*x : x*x+y*y
    for (let i=0; i<n; i++) { b[i] += r[i]*z; for (let j=0; j<n; j++) A[i][j] += r[i]*r[j] }
  }
  for (let i=0; i<n; i++) A[i][i] += 1e-9
  const c = solve(A, b), a = oval ? Math.max(c[3], 1e-3) : 1, x = c[0]/2, y = c[1]/2/a
  return [x, y, Math.sqrt(Math.max(c[2]+x*x+a*y*y, 0)), 1/Math.sqrt(a)]
}

const near = ([cx, cy, r, k], tol) => ([x, y]) => Math.abs(Math.sqrt((x-cx)**2+((y-cy)/k)**2)-r)<tol
const sane = c => c[2]>.4 && c[2]<1.6 && c[3]>.6 && c[3]<1.67

function refine(points, on, tols, oval=false) { // share of points on the circle, redrawn for each of `tols`, and the circle
  let c
  for (const tol of tols) {
    if (on.length<10) return [0, null]
    c = conic(on, oval)
    on = points.filter(near(c, tol))
  }
  return sane(c) ? [on.length/points.length, c] : [0, null]
}

// `draws`: 160 blocks of 96x7 bytes, for n points on from 1: the same points that Python draws, three for a circle, four for an oval
function search(points, tol, oval, draws) {
  const k = oval ? 4 : 3, from = (points.length-1)*672+(oval ? 288 : 0)
  let best = [], most = -1
  for (let i=0; i<96; i++) {
    const some = Array.from({length:k}, (_, j) => points[draws[from+i*k+j]])
    const c = conic(some, oval), on = sane(c) ? points.filter(near(c, tol)) : []
    if (on.length>most) { most = on.length; best = on.length ? on : points.filter(near(c, tol)) }
  }
  return refine(points, best, [tol,tol,tol], oval)
}

function outside({w, h, d}, [cx, cy, r, k]) { // the share of what is lit that lies outside
  const most = (1.04*r+1)**2
  let n = 0, all = 0
  for (let y=0; y<h; y++) for (let x=0; x<w; x++) if (d[y*w+x]) {
    all++
    n += (x-cx)**2+((y-cy)/k)**2>most
  }
  return n/Math.max(1, all)
}

function fit(lit, draws) {
  const points = edge(lit), s = Math.max(lit.w, lit.h)/2
  if (points.length<.2*s) return [0, null]
  const tol = Math.max(1.2, s/64)/s
  let best = refine(points, points, [3*tol,tol,tol])
  if (best[0]<.85) best = search(points, tol, false, draws)
  if (best[0]<.85) {
    const q = search(points, tol, true, draws)
    if (q[0]>best[0]+.1) best = q
  }
  if (!best[1]) return best
  const [cx, cy, r, k] = best[1], c = [(cx+1)*s, (cy+1)*s, r*s, k]
  return outside(lit, c)<.04 ? [best[0], c] : [0, null]
}

function first(n, chord, start) { // where a straight cut ends; 0 where there is none
  const i = Math.max(0, n.findIndex(o => o>0)), j = Math.min(i+1, n.length-1)
  return i>start+2 && n[j]>.7*chord[j] ? i : 0
}

function span(n, c, r, at, across, end) { // first and last row (or column) that is not cut away
  const chord = n.map((_, i) => {
    const half = Math.sqrt(Math.max(1-((i-c)/r)**2, 0))*across
    return Math.min(at+half, end-1)-Math.max(at-half, 0)
  })
  return [first(n, chord, c-r), n.length-first([...n].reverse(), [...chord].reverse(), n.length-1-c-r)]
}

function sums({w, h, d}) { // lit pixels of each column and of each row
  const x = new Array(w).fill(0), y = new Array(h).fill(0)
  for (let i=0; i<d.length; i++) if (d[i]) { x[i%w]++; y[(i/w)|0]++ }
  return [x, y]
}

export const whole = (w, h, found=true) =>
  ({cx:(w-1)/2, cy:(h-1)/2, r:Math.hypot(w, h)/2+1, box:[0, 0, w, h], w, h, aspect:1, found, fit:0})

function box(lit) { // a circle round everything, and its box
  let [xs, ys] = sums(lit).map(n => n.flatMap((o, i) => o>1 ? [i] : []))
  if (!xs.length || !ys.length) { ys = [0, lit.h-1]; xs = [0, lit.w-1] }
  const x0 = xs[0], y0 = ys[0], x1 = xs.at(-1)+1, y1 = ys.at(-1)+1
  return [[(x0+x1-1)/2, (y0+y1-1)/2, Math.hypot(x1-x0, y1-y0)/2+1, 1], [x0, x1], [y0, y1]]
}

function located(lit, q, c, k, w, h) {
  let xs, ys
  if (!c || q<.3) { [c, xs, ys] = box(lit); q = 0 }
  else {
    const [cx, cy, r, a] = c, [nx, ny] = sums(lit)
    xs = span(nx, cx, r, cy, r*a, lit.h)
    ys = span(ny, cy, r*a, cx, r, lit.w)
  }
  const a = c[3], cx = (c[0]+.5)*k-.5, cy = (c[1]+.5)*k-.5, r = c[2]*k
  const x0 = Math.max(xs[0]*k, even(cx-r), 0), y0 = Math.max(ys[0]*k, even(cy-r*a), 0)
  const x1 = Math.min(xs[1]===lit.w ? w : xs[1]*k, even(cx+r)+1, w)
  const y1 = Math.min(ys[1]===lit.h ? h : ys[1]*k, even(cy+r*a)+1, h)
  return {cx, cy, r, box:[x0, y0, Math.max(x1, x0+1), Math.max(y1, y0+1)], w, h, aspect:a, found:true, fit:q}
}

function sought(im, draws, side) { // the field of a picture that has no frame
  const {w, h} = im
  let s = im, k = 1
  while (Math.max(s.w, s.h)>=2*side && Math.min(s.w, s.h)>=32) { s = halve(s); k *= 2 }
  const g = glow(s), [lo, noise, rise] = ground(g)
  let least = 255, most = 0
  for (const v of g.d) { least = Math.min(least, v); most = Math.max(most, v) }
  if (rise<12 || most-least<12) return whole(w, h, false)
  let best = [0, null, null]
  for (const share of [.12, .05]) {
    const cut = lo+Math.max(3, noise, share*rise), lit = {w:g.w, h:g.h, d:g.d.map(v => v>cut ? 1 : 0)}
    if (lit.d.reduce((a, b) => a+b, 0)>.985*lit.d.length) continue
    const [q, c] = fit(lit, draws)
    if (!best[2] || q>best[0]+.05) best = [q, c, lit]
    if (q>.85) break
  }
  return best[2] ? located(best[2], best[0], best[1], k, w, h) : whole(w, h)
}

function frameRows(d, w, h, at) { // rows of a light, even frame, with two that blend into it, and how light they are
  const m = Math.floor(w/8), most = Math.floor(h/8) // `at(x, y)` is the place of a pixel
  const row = y => Array.from({length:w-2*m}, (_, x) => 3*at(x+m, y)).map(i => Math.max(d[i], d[i+1], d[i+2]))
  let n = 0, light = 0
  for (; n<most; n++) {
    const r = row(n), [lo, hi] = r.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [255, 0])
    if (lo<=24 || hi-lo>48) break
    light = Math.max(light, mean(r))
  }
  return n>0 && n<most && mean(row(n+1).map(v => Math.abs(v-light)))>20 ? [n+2, light] : [0, 255]
}

function unframed({w, h, d}) { // x0, y0, x1, y1 inside a light frame, or null
  const sides = [frameRows(d, h, w, (y, x) => y*w+x), frameRows(d, w, h, (x, y) => y*w+x),
                 frameRows(d, h, w, (y, x) => y*w+w-1-x), frameRows(d, w, h, (x, y) => (h-1-y)*w+x)]
  const [l, u, r, b] = sides.map(o => o[0]), light = Math.min(...sides.map(o => o[1]))
  if (!(l+u+r+b)) return null
  const dark = [...corners(cut({w, h, d}, l, u, w-l-r, h-u-b), 3)].every(c => 2*mean(c)<light)
  return dark ? [l, u, w-r, h-b] : null
}

export function fieldOfView(im, draws, side=128) {
  const inner = unframed(im)
  if (!inner) return sought(im, draws, side)
  const [x, y, x1, y1] = inner, v = sought(cut(im, x, y, x1-x, y1-y), draws, side), b = v.box
  return {...v, cx:v.cx+x, cy:v.cy+y, box:[b[0]+x, b[1]+y, b[2]+x, b[3]+y], w:im.w, h:im.h, inner}
}

export function fieldMask(v, share=1) { // 1 inside the visible field
  const m = new Uint8Array(v.w*v.h), [x0, y0, x1, y1] = v.box, r = v.r*share
  for (let y=y0; y<Math.min(y1, v.h); y++) {
    const d = (y-v.cy)/v.aspect
    if (Math.abs(d)>r) continue
    const half = Math.sqrt(Math.max(r*r-d*d, 0))
    const a = Math.max(Math.ceil(v.cx-half), x0, 0), b = Math.min(Math.floor(v.cx+half), x1-1, v.w-1)
    for (let x=a; x<=b; x++) m[y*v.w+x] = 1
  }
  return m
}

// --- the crop

function frame(v) { // x, y, width and height of the window that holds the field
  const [x0, y0, x1, y1] = v.box, s = Math.max(x1-x0, (y1-y0)/v.aspect)
  const at = (c, a, b, n) => even(Math.min(Math.max(c+.5-n/2, b-n), a))
  const w = Math.max(1, even(s)), h = Math.max(1, even(s*v.aspect))
  return [at(v.cx, x0, x1, w), at(v.cy, y0, y1, h), w, h]
}

function cut({w, h, d}, X, Y, W, H, inner=[0, 0, w, h]) { // black where it reaches over the edge, or the frame's
  const [x0, y0, x1, y1] = inner, o = new Uint8Array(W*H*3), a = Math.max(X, x0), b = Math.min(X+W, x1)
  for (let y=Math.max(Y, y0); y<Math.min(Y+H, y1); y++)
    o.set(d.subarray((y*w+a)*3, (y*w+b)*3), ((y-Y)*W+a-X)*3)
  return {w:W, h:H, d:o}
}

function moved(v, [x, y, w, h], size) {
  const kx = size/w, ky = size/h, [x0, y0, x1, y1] = v.box, end = o => Math.min(size, Math.max(1, even(o)))
  const half = o => even(2*o)/2
  return {cx:half((v.cx-x+.5)*kx-.5), cy:half((v.cy-y+.5)*ky-.5), r:half(v.r*kx), w:size, h:size, aspect:1,
          box:[Math.max(0, even((x0-x)*kx)), Math.max(0, even((y0-y)*ky)), end((x1-x)*kx), end((y1-y)*ky)],
          found:v.found, fit:v.fit}
}

function cropped(im, v, size) {
  const win = frame(v)
  size = size || win[2]
  return [resize(cut(im, ...win, v.inner), size), moved(v, win, size)]
}

// --- the steps of a recipe

function halveFloat({w, h, d, c}) {
  const W = w>>1, H = h>>1, o = new Float32Array(W*H*c)
  for (let y=0, k=0; y<H; y++) for (let x=0; x<W; x++) for (let i=0; i<c; i++) {
    const p = (2*y*w+2*x)*c+i, q = p+w*c
    o[k++] = (d[p]+d[p+c]+d[q]+d[q+c])/4
  }
  return {w:W, h:H, d:o, c}
}

function gauss({w, h, d, c}, s) { // sees zeros beyond the border
  const n = Math.ceil(3*s), k = Array.from({length:2*n+1}, (_, i) => Math.exp(-((i-n)**2)/(2*s*s)))
  const all = k.reduce((a, b) => a+b, 0)
  const pass = (from, steps, step, at) => {
    const o = new Float32Array(from.length)
    for (let i=0; i<from.length; i++) {
      const p = at(i)
      let v = 0
      for (let j=Math.max(-n, -p); j<=Math.min(n, steps-1-p); j++) v += from[i+j*step]*k[j+n]
      o[i] = v/all
    }
    return o
  }
  const across = pass(d, w, c, i => ((i/c)|0)%w)
  return {w, h, d:pass(across, h, w*c, i => (i/(w*c))|0), c}
}

function padded({w, h, d}, k, c) { // zeros to the right and below, up to a multiple of k
  const W = Math.ceil(w/k)*k, H = Math.ceil(h/k)*k, o = new d.constructor(W*H*c)
  for (let y=0; y<h; y++) o.set(d.subarray(y*w*c, (y+1)*w*c), y*W*c)
  return {w:W, h:H, d:o, c}
}

const masked = (a, m) => ({...a, d:a.d.map((v, i) => m[(i/a.c)|0] ? v : 0)})

function subtract(im, v, sigma, gain, share) { // gain times the difference from the local average in the field, round 128
  const n = Math.min(3, Math.max(0, Math.trunc(Math.log2(Math.max(sigma, 1)/1.7)))), k = 2**n
  const s = Math.sqrt(Math.max(sigma*sigma-(k*k-1)/12-(n>0 ? k*k/6 : 0), .04))/k
  let inner = padded({w:im.w, h:im.h, d:Float32Array.from(fieldMask(v, Math.min(share, .98)))}, k, 1)
  if (n) { inner = halveFloat(inner); inner.d = inner.d.map(Math.floor) }
  let weight = inner
  for (let i=1; i<n; i++) weight = halveFloat(weight)
  weight = gauss(weight, s)
  let a = padded(im, k, 3)
  if (n>1) {
    a = masked({...halve(a), c:3}, inner.d)
    const lit = halve({...a, d:a.d.map(o => 255-o)}) // as Python does it, which rounds down so
    a = {w:lit.w, h:lit.h, d:Float32Array.from(lit.d, o => 255-o), c:3}
    if (n>2) a = halveFloat(a)
  } else {
    a = {...a, d:Float32Array.from(a.d)}
    a = masked(n ? halveFloat(a) : a, inner.d)
  }
  a = gauss(a, s)
  for (let i=0; i<a.d.length; i++) a.d[i] /= Math.max(weight.d[(i/3)|0], 1e-3)
  const xs = linearTable(a.w, a.w*k), ys = linearTable(a.h, a.h*k), seen = fieldMask(v, share)
  const o = new Uint8Array(im.d.length).fill(128)
  for (let y=0; y<im.h; y++) for (let x=0; x<im.w; x++) if (seen[y*im.w+x]) {
    const [l, r, p] = xs[x], [t, b, q] = ys[y]
    for (let c=0; c<3; c++) {
      const up = a.d[(t*a.w+l)*3+c]*(1-p)+a.d[(t*a.w+r)*3+c]*p
      const low = a.d[(b*a.w+l)*3+c]*(1-p)+a.d[(b*a.w+r)*3+c]*p
      o[(y*im.w+x)*3+c] = byte(gain*im.d[(y*im.w+x)*3+c]-gain*(up*(1-q)+low*q)+128)
    }
  }
  return {...im, d:o}
}

const each = (im, g) => {
  const o = new Uint8Array(im.d.length)
  for (let i=0; i<o.length; i+=3) o.set(g(im.d[i], im.d[i+1], im.d[i+2]), i)
  return {...im, d:o}
}
const triple = v => [v, v, v]
const CHANNELS = ['red','green','blue'], VGG = [123.68, 116.779, 103.939]

function curved(im, v, curve) { // gray levels of each channel through `curve(values in the field)`, black outside
  const m = fieldMask(v), lut = [0, 1, 2].map(c => {
    const some = []
    for (let i=0; i<m.length; i++) if (m[i]) some.push(im.d[i*3+c])
    const g = curve(some)
    return Uint8Array.from({length:256}, (_, x) => byte(g(x)))
  })
  return {...im, d:im.d.map((x, i) => m[(i/3)|0] ? lut[i%3][x] : 0)}
}

function percentile(sorted, q) {
  const at = q/100*(sorted.length-1), i = Math.floor(at), a = sorted[i], b = sorted[Math.min(i+1, sorted.length-1)]
  return a+(b-a)*(at-i)
}

const plain = { // of a picture and its parameters
  gray: im => each(im, (r, g, b) => triple(byte((r+g+b)/3))),
  luma: im => each(im, (r, g, b) => triple(byte(f(f(f(f(.2989)*r)+f(f(.587)*g))+f(f(.114)*b))))),
  channel: (im, {channel}) => each(im, (...p) => triple(p[CHANNELS.indexOf(channel)])),
  zero: (im, {channel}) => each(im, (...p) => p.map((x, i) => CHANNELS[i]===channel ? 0 : x)),
  vgg16: (im, {order}) => each(im, (...p) => {
    const q = p.map((x, i) => byte(x-VGG[i]+128))
    return order==='bgr' ? q.reverse() : q
  }),
}

const inField = { // of a picture, its field and parameters
  local_average: (im, v, o) => subtract(im, v, o.sigma*Math.max(im.w, im.h)/512, o.gain, o.share),
  graham: (im, v, o) => subtract(im, v, Math.min(v.r, Math.max(v.w, v.h)/2)/30, o.gain, o.share),
  contrast: (im, v, {low, high}) => curved(im, v, some => {
    some.sort((p, q) => p-q)
    const a = percentile(some, low), b = percentile(some, high)
    return x => (x-a)/Math.max(b-a, 1)*255
  }),
  even: (im, v, {mean:m, sd}) => curved(im, v, some => {
    const a = mean(some), s = Math.max(deviation(some), 1)
    return x => (x-a)/s*sd+m
  }),
}

export const STEPS = ['crop','square',...Object.keys(plain),...Object.keys(inField)]

function cook(im, steps, size, draws) { // the picture after all steps, and the field in it, if one was asked for
  let v = null
  if (size && !steps.some(o => o.step==='crop' || o.step==='square')) im = cropped(im, whole(im.w, im.h), size)[0]
  for (const {step, ...o} of steps) {
    if (step==='square') { im = cropped(im, whole(im.w, im.h), o.size || size)[0]; v = null; continue }
    if (plain[step]) { im = plain[step](im, o); continue }
    v = v || fieldOfView(im, draws)
    if (step==='crop') [im, v] = cropped(im, v, o.size || size)
    else if (v.found) im = inField[step](im, v, o)
  }
  return [im, v]
}

export function netPicture(im, {recipe, size, image}, draws) { // what a net is given, `size` wide and high
  if (image==='oct') im = luma(im)
  if (recipe.length) im = cook(im, recipe, size, draws)[0]
  return pillow(image==='oct' ? luma(im) : im, size, size)
}

export function fieldSeen(im, {recipe, size, image}, draws) { // where the eye is in `netPicture`, 1 or 0; null for a scan
  if (image==='oct') return null
  const v = fieldOfView(im, draws), all = whole(im.w, im.h)
  const [x, y, w, h] = recipe.some(o => o.step==='crop') ? frame(v) : recipe.length ? frame(all) : all.box
  const kx = size/w, ky = size/h, [x0, y0, x1, y1] = v.box
  return fieldMask({cx:(v.cx-x+.5)*kx-.5, cy:(v.cy-y+.5)*ky-.5, r:v.r*kx, w:size, h:size, aspect:v.aspect*ky/kx,
                    box:[(x0-x)*kx, (y0-y)*ky, (x1-x)*kx, (y1-y)*ky].map(even)})
}

export function remark(im, image, draws) { // why a picture gets no answer, or null
  if (image!=='oct') return fieldOfView(im, draws).found ? null : 'shows no visible field (it is nearly black, or blank)'
  let lo = 255, hi = 0
  for (const v of luma(im).d) { lo = Math.min(lo, v); hi = Math.max(hi, v) }
  return hi-lo<8 ? 'is blank: nothing can be seen in it' : null
}

function inColor({w, h, d}) { // a scan may hold a colored mark
  let sum = 0, n = 0
  for (let y=0; y<h; y+=4) for (let x=0; x<w; x+=4, n++) {
    const i = 3*(y*w+x), [r, g, b] = [d[i], d[i+1], d[i+2]]
    sum += Math.max(r, g, b)-Math.min(r, g, b)
  }
  return sum/n>8
}

export function doubt(im, image, draws) { // what the pixels say against a net of scans, or of photographs; may be empty
  if (image==='oct') return inColor(im) ? 'is in color, as a photograph, and this net knows scans' : ''
  return inColor(im) || fieldOfView(im, draws).fit>=.4 ? '' : 'is gray and lies in no circle, as a scan, and this net knows photographs'
}
