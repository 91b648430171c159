"Chromium as Debian packs it, without a window, told what to do through a pipe: no driver and no package of Python's"
import base64, fcntl, io, json, os, queue, shutil, subprocess, threading, time
from pathlib import Path

EXE = os.environ.get('FUNDUS_CHROMIUM') or next(filter(None, map(shutil.which, ('chromium','chromium-browser','google-chrome'))), None)
FLAGS = ('--headless=new','--no-sandbox','--disable-gpu','--disable-dev-shm-usage','--no-first-run','--remote-debugging-pipe',
         '--disable-background-networking','--disable-component-update','--disable-extensions','--mute-audio')
KEYS = dict(Tab=9, Enter=13, Escape=27, ArrowDown=40, ArrowUp=38, ArrowLeft=37, ArrowRight=39)
OWN = ('accounts.google.com','clients2.google.com','update.googleapis.com','redirector.gvt1.com','www.google.com','android.clients.google.com',
       'optimizationguide-pa.googleapis.com','content-autofill.googleapis.com','safebrowsingohttpgateway.googleapis.com') # Chromium's own, of itself

def elsewhere(asked, url):
    "Of the addresses in a net log, those that are neither below `url` nor what Chromium asks of itself"
    own = url,*(f'{s}://{h}/' for s in ('http','https') for h in OWN)
    return sorted(o for o in asked if not o.startswith(own))

SMALL = ('unshare','-rm','bash','-c','mkdir -p "$0" && mount -t tmpfs -o size=1G tmpfs "$0" && exec "$@"')

def small_disks(): return shutil.which('unshare') and not subprocess.run([*SMALL[:-1],'mount -t tmpfs tmpfs /tmp'], capture_output=True).returncode

class Chromium:
    "A browser with its own profile in the folder `home`; `small`: on a disk of 1 GB"
    def __init__(self, home, *flags, small=False):
        self.home,self.n,self.lock = Path(home),0,threading.Lock()
        r,w = os.pipe(),os.pipe()
        give,take = (fcntl.fcntl(o, fcntl.F_DUPFD, 30) for o in (r[0],w[1]))
        for o in (give,take): os.set_inheritable(o, True)
        args = [*FLAGS, f'--user-data-dir={home}/profile', f'--log-net-log={home}/net.json', *flags, 'about:blank']
        self.process = subprocess.Popen([*((*SMALL, f'{home}/profile') if small else ()), 'bash', '-c', f'exec "$0" "$@" 3<&{give} 4>&{take}', EXE, *args],
                                        pass_fds=(give,take), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        env=os.environ|dict(HOME=str(home)))
        for o in (give,take,r[0],w[1]): os.close(o)
        self.to,self.back,self.answers,self.events = r[1],os.fdopen(w[0], 'rb', 0),{},[]
        threading.Thread(target=self._listen, daemon=True).start()
    def _listen(self):
        left = b''
        while part := self.back.read(1<<16):
            *whole,left = (left+part).split(b'\0')
            for o in map(json.loads, whole):
                if 'id' in o: self.answers.setdefault(o['id'], queue.Queue()).put(o)
                else: self.events.append(o)
        for q in list(self.answers.values()): q.put(dict(error='the browser has ended'))
    def __call__(self, method, session=None, timeout=60, **params):
        with self.lock:
            self.n += 1
            n = self.n
        q = self.answers.setdefault(n, queue.Queue())
        raw = json.dumps(dict(id=n, method=method, params=params)|(dict(sessionId=session) if session else {})).encode()+b'\0'
        while raw: raw = raw[os.write(self.to, raw):]
        o = q.get(timeout=timeout)
        if 'error' in o: raise RuntimeError(f"{method}: {o['error']}")
        return o['result']
    def page(self, url='about:blank', **kwargs): return Page(self, url, **kwargs)
    def close(self):
        "End, so that the net log is whole"
        if self.process.poll() is None:
            try: self('Browser.close', timeout=10)
            except (RuntimeError, OSError, queue.Empty): pass
            try: self.process.wait(20)
            except subprocess.TimeoutExpired: self.process.kill()
        os.close(self.to)
    def __enter__(self): return self
    def __exit__(self, *args): self.close()
    def asked(self):
        "Every address that the net log names, once the browser has ended"
        text = (self.home/'net.json').read_text(errors='replace')
        found = set()
        for line in text.splitlines():
            if '"url":"' in line: found |= {o.split('"')[0] for o in line.split('"url":"')[1:]}
        return found

class Page:
    "A tab"
    def __init__(self, browser, url, before=None, size=(1000,900), dark=False):
        self.browser = browser
        self.target = browser('Target.createTarget', url='about:blank')['targetId']
        self.session = browser('Target.attachToTarget', targetId=self.target, flatten=True)['sessionId']
        for o in ('Page','Runtime','DOM','Network'): self(f'{o}.enable')
        if before: self('Page.addScriptToEvaluateOnNewDocument', source=before)
        self.look(size, dark)
        self.go(url)
    def __call__(self, method, **params): return self.browser(method, self.session, **params)
    def look(self, size=(1000,900), dark=False):
        self('Emulation.setDeviceMetricsOverride', width=size[0], height=size[1], deviceScaleFactor=1, mobile=size[0]<600)
        self('Emulation.setEmulatedMedia', features=[dict(name='prefers-color-scheme', value='dark' if dark else 'light')])
    def go(self, url): self('Page.navigate', url=url)
    def run(self, js):
        "The value of an expression, a promise waited for"
        o = self('Runtime.evaluate', expression=js, awaitPromise=True, returnByValue=True, timeout=60_000)
        if 'exceptionDetails' in o: raise RuntimeError(o['exceptionDetails'].get('exception', {}).get('description', str(o)))
        return o['result'].get('value')
    def wait(self, js, seconds=60):
        "Wait until an expression is true; its value"
        end = time.time()+seconds
        while time.time()<end:
            try:
                if v := self.run(js): return v
            except RuntimeError as e: why = e # between two pages
            time.sleep(.1)
        raise AssertionError(f"{js} was not true in {seconds} s; the page says: {self.run('document.body.innerText')[:600]}")
    def key(self, name):
        kw = dict(key=name, code=name, windowsVirtualKeyCode=KEYS.get(name, 0))
        if name=='Enter': kw['text'] = '\r'
        if name==' ': kw |= dict(code='Space', text=' ', windowsVirtualKeyCode=32)
        self('Input.dispatchKeyEvent', type='keyDown', **kw)
        self('Input.dispatchKeyEvent', type='keyUp', **{k:v for k,v in kw.items() if k!='text'})
    def upload(self, selector, path):
        root = self('DOM.getDocument')['root']['nodeId']
        node = self('DOM.querySelector', nodeId=root, selector=selector)['nodeId']
        self('DOM.setFileInputFiles', nodeId=node, files=[str(Path(path).resolve())])
    def drop(self, *paths, at=(300,300)):
        "Let files fall on the page, as from a window beside it"
        for k in ('dragEnter','dragOver','drop'):
            self('Input.dispatchDragEvent', type=k, x=at[0], y=at[1], data=dict(items=[], files=[str(Path(o).resolve()) for o in paths], dragOperationsMask=1))
    def paper(self, to):
        "What the page's printer would be given, as PDF"
        Path(to).write_bytes(base64.b64decode(self('Page.printToPDF', printBackground=False)['data']))
    def shot(self, to, whole=True, clip=None):
        more = dict(clip=dict(zip(('x','y','width','height'), clip), scale=1)) if clip else {}
        Path(to).write_bytes(base64.b64decode(self('Page.captureScreenshot', captureBeyondViewport=whole, **more)['data']))
    def bar(self, what):
        "RGB that the fullest `meter` of `what` is drawn in, near its beginning"
        from PIL import Image
        x,y = self.run(f"(o => [o.x+scrollX, o.y+scrollY].map(Math.round))([...document.querySelectorAll('{what} meter')].sort((a, b) => b.value-a.value)[0].getBoundingClientRect())")
        clip = dict(x=x, y=y, width=30, height=10, scale=1) # without a scrollbar all of it stands 8 to the right
        raw = self('Page.captureScreenshot', captureBeyondViewport=True, clip=clip)['data']
        return Image.open(io.BytesIO(base64.b64decode(raw))).convert('RGB').getpixel((20,5))
