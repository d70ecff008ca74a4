"""Laws and rules judged by what their choice of the QAT fraction costs on measured curves that they have not seen."""
