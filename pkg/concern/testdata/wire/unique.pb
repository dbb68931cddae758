
ss