// Can this browser do it at all? If so, the page begins; if not, it says why. Old browsers read this file as well.

(function () {
  var state = document.getElementById('state')
  var simd = new Uint8Array([0,97,115,109,1,0,0,0,1,5,1,96,0,1,123,3,2,1,0,10,10,1,8,0,65,0,253,15,253,98,11])
  function lacks() {
    if (location.protocol==='file:') return 'This page was opened as a file, and browsers let no program run from there. Serve its folder: python -m http.server -d FOLDER'
    if (typeof WebAssembly==='undefined') return 'This browser runs no WebAssembly, which the net needs: use a browser of 2023 or later, or allow it.'
    if (!WebAssembly.validate(simd)) return 'This browser runs WebAssembly without SIMD, which the net needs: use a browser of 2023 or later.'
    if (typeof OffscreenCanvas==='undefined' || typeof Worker==='undefined') return 'This browser cannot open pictures beside a page: use a browser of 2023 or later.'
  }
  var why = lacks()
  if (why) { state.textContent = why; state.className = 'wrong'; return }
  state.textContent = state.getAttribute('data-wait')
  import('./page.mjs').catch(function (e) {
    state.textContent = 'This page could not begin ('+e.message+'): load it again.'
    state.className = 'wrong'
  })
})()
