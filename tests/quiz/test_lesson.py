"The game of lesson 14: answers that are typed, odd ones, and nobody at the screen"
import builtins
import numpy as np, pandas as pd, pytest
from house.shared import ROOT, code

PARTS = 'def drawn(k)', 'def simulated_reader(', 'def asked(', 'def play('

@pytest.fixture
def game(monkeypatch):
    "The lesson's own cells, with ten scans; `game.say(answers)` sits at the screen"
    monkeypatch.setenv('MPLBACKEND', 'Agg')
    page,names = code(ROOT/'nbs/lessons/14_are_you_better_than_the_ai.ipynb'),{'quick':False}
    exec('from fundus_fastai.all import *\nimport re\ndef clear_output(): pass', names)
    for o in PARTS: exec(next(s for s in page if o in s), names)
    names['plt'].switch_backend('Agg')
    ten = pd.DataFrame(dict(person=range(10), truth=['ill','well']*5))
    def say(*answers):
        left = iter(answers)
        def read(_):
            if (o := next(left, EOFError())) and isinstance(o, Exception): raise o
            return o
        monkeypatch.setattr(builtins, 'input', read)
        try: return names['play'](ten)
        finally: names['plt'].close('all')
    return say

def test_what_you_type_is_what_counts(game):
    "Odd answers are asked again, and nothing is taken for an answer that is none"
    t,who = game('i 80', 'what?', 'i', 'w 20', '80', 'w 101', 'well, 70 %', *['I100']*8)
    assert who=='you' and t.answer.tolist()==['ill','well']+['ill']*8 and t.sure.tolist()==[.8,.7]+[1.]*8
    assert t.right.tolist()==[True,True]+[True,False]*4

@pytest.mark.parametrize('answers', [(), ('',), (NotImplementedError(),), ('i 80', '')])
def test_where_nobody_plays_a_simulated_reader_does_and_it_is_said(game, answers):
    t,who = game(*answers)
    assert who=='a simulated reader of .70' and len(t)==10 and t.sure.between(.6, 1).all() and t.answer.isin(['ill','well']).all()
    assert (t.right==(t.answer==t.truth)).all() and t.equals(game()[0])
