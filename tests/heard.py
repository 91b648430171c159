"What a screen reader and a validator ask of a page of ours: its title, landmarks, headings, tables, pictures and labels"
from html.parser import HTMLParser

VOID = {'meta','link','img','br','input','hr','source','wbr'}
CONTROLS = {'input','select','textarea','output','button','meter','progress'}

class Page(HTMLParser):
    "`faults` of a page, and its title and alternative texts"
    def __init__(self, html):
        super().__init__()
        self.open,self.faults,self.title,self.ids,self.heads,self.alts,self.mains,self.held = [],[],'',[],[],[],0,0
        self.feed(html); self.close()
        self.faults += [f'<{o}> is not closed' for o in self.open]
        self.faults += [f'id {o} stands twice' for o in {o for o in self.ids if self.ids.count(o)>1}]
        if self.mains!=1: self.faults.append(f'{self.mains} main')
        if [o for o in self.heads if o==1]!=[1]: self.faults.append(f'headings {self.heads}')
        self.faults += [f'h{b} follows h{a}' for a,b in zip([0,*self.heads], self.heads) if b>a+1]
    def handle_starttag(self, tag, attrs):
        at = dict(attrs)
        if 'id' in at: self.ids.append(at['id'])
        if tag=='html' and not at.get('lang'): self.faults.append('no language')
        if tag=='main': self.mains += 1
        if tag[0]=='h' and tag[1:].isdecimal(): self.heads.append(int(tag[1:]))
        if tag=='img':
            self.alts.append(at.get('alt'))
            if at.get('alt') is None: self.faults.append(f"no words for {at.get('src', '')[:40]}")
        if tag=='th' and at.get('scope') not in ('col','row'): self.faults.append('a th without scope')
        if tag=='tr' and 'thead' not in self.open and 'tbody' not in self.open: self.faults.append('a row outside thead and tbody')
        if tag=='label': self.held = 0
        if tag in CONTROLS and at.get('type')!='hidden' and 'label' in self.open:
            self.held += 1
            if self.held>1: self.faults.append(f'a label of two controls, the second a {tag}')
        if tag not in VOID: self.open.append(tag)
    def handle_startendtag(self, tag, attrs): pass
    def handle_endtag(self, tag):
        if self.open[-1:]==[tag]: self.open.pop()
        else: self.faults.append(f'</{tag}> closes {self.open[-1:]}')
    def handle_data(self, text):
        if self.open[-1:]==['title']: self.title += text
